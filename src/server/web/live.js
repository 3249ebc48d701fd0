(() => {
  const root = document.querySelector("[data-events]");
  if (!root || !window.EventSource) return;
  const events = new EventSource(root.dataset.events);
  events.addEventListener("step", async () => {
    const typed = [...document.querySelectorAll("main input:not([type=hidden])")].some((field) => field.value !== field.defaultValue);
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    const state = (page) => page.querySelector("[data-state]")?.dataset.state;
    // What somebody is typing is not taken away, unless there is nothing left to type it for.
    if (typed && state(next) === state(document)) return;
    document.querySelector("main").replaceWith(next.querySelector("main"));
    document.title = next.title;
  });
})();
