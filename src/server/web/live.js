(() => {
  const url = document.querySelector("[data-events]")?.dataset.events;
  if (!url || !window.EventSource) return;
  let events;
  const refresh = async () => {
    // In a form that came back everything in it was typed.
    const before = (field) => (field.form?.dataset.kept === undefined ? field.defaultValue : "");
    const typed = [...document.querySelectorAll("main input:not([type=hidden])")].some((field) => field.value !== before(field));
    const answer = await fetch(url.replace(/\/events$/, ""), { headers: { accept: "text/html" } });
    const ended = answer.status === 401;
    if (!answer.ok && !ended) return;
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    const state = (page) => page.querySelector("[data-state]")?.dataset.state;
    // What somebody is typing is not taken away, unless there is nothing left to type it for.
    if (typed && (ended || state(next) === state(document))) return;
    document.querySelector("main").replaceWith(next.querySelector("main"));
    document.title = next.title;
  };
  // A browser opens a few connections to one server: none is held by a page that nobody looks at, or that is being sent.
  const stop = () => {
    events?.close();
    events = undefined;
  };
  const listen = () => {
    if (events || document.hidden) return;
    events = new EventSource(url);
    events.addEventListener("step", refresh);
  };
  const again = () => {
    listen();
    refresh();
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : again()));
  document.addEventListener("submit", stop);
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", (event) => event.persisted && again());
  listen();
})();
