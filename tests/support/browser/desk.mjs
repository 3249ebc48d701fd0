// Drives the reviewers' pages in a real browser. One argument: JSON with
//   desk     address of the gate           shots   folder for screenshots
//   approve  a request to approve          reject  a request to reject, without JavaScript
//   person   whom to sign in as, by the name that the issuer shows
//   review   a request whose glass was broken, to review
//   more     further requests to look at: name and id of each
// Ends with code 0, or says on standard error what is wrong.
import { chromium } from "playwright-core";

const { desk, shots, approve, reject, person, review, more } = JSON.parse(process.argv[2]);
const wrong = [];
const check = (fact, what) => fact || wrong.push(what);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});

async function signedIn(options, path) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => {
    // Pages that refuse say so by their status, which the console calls an error.
    const text = message.text();
    if (message.type() === "error" && !/status of (401|409)|ERR_INCOMPLETE/.test(text)) wrong.push(`console: ${text}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:" && url.hostname !== "127.0.0.1") wrong.push(`asks another host: ${url}`);
  });
  await page.goto(desk + path);
  check(await page.getByRole("heading", { name: "Sign in to decide" }).isVisible(), "a stranger sees a page");
  await page.getByRole("link", { name: "Sign in" }).click();
  await page.getByText(person, { exact: true }).click();
  await page.waitForURL(desk + path);
  return { context, page };
}

async function shoot(page, name) {
  for (const scheme of ["light", "dark"]) {
    for (const width of [390, 1280]) {
      await page.emulateMedia({ colorScheme: scheme });
      await page.setViewportSize({ width, height: width === 390 ? 844 : 900 });
      await page.screenshot({ path: `${shots}/${name}-${width}-${scheme}.png`, fullPage: true });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      check(wide <= 0, `${name} is ${wide} px too wide at ${width}`);
    }
  }
}

// With JavaScript: everything is shown, reached by keyboard, and followed live.
const { context, page } = await signedIn({}, `/r/${approve}`);
await shoot(page, "request");
const queue = await context.newPage();
await queue.goto(desk + "/requests");
await shoot(queue, "requests");
await queue.goto(desk + "/sessions");
await shoot(queue, "sessions");
const session = queue.locator("main a.item").first();
if (await session.isVisible()) {
  await session.click();
  await shoot(queue, "session");
}
for (const { name, id } of more) {
  await queue.goto(`${desk}/r/${id}`);
  const plan = queue.locator("details.plan");
  if (await plan.count()) await plan.locator("summary").click();
  await shoot(queue, name);
}
await queue.goto(`${desk}/r/${review}`);
await shoot(queue, "glass");
await queue.getByLabel("Comment").fill("it had to be");
await queue.getByRole("button", { name: "It was in order" }).click();
await queue.getByText("found it in order").waitFor({ timeout: 20000 });
await shoot(queue, "reviewed");
await queue.goto(desk + "/requests");

await page.bringToFront();
await page.setViewportSize({ width: 1280, height: 900 });
await page.emulateMedia({ colorScheme: "light" });
let reached = "";
for (let steps = 0; steps < 40 && reached !== "Approve once"; steps += 1) {
  await page.keyboard.press("Tab");
  reached = await page.evaluate(() => document.activeElement?.textContent?.trim() ?? "");
  if (await page.evaluate(() => document.activeElement?.id === "comment")) await page.keyboard.type("only test orders");
}
check(reached === "Approve once", "the button to approve is not reached by keyboard");
await page.keyboard.press("Enter");
await page.locator(".pill.approved").waitFor({ timeout: 20000 });
check(await page.getByText("only test orders").isVisible(), "the comment is not shown");
await queue.locator(`a[href="/r/${approve}"] .pill.approved`).waitFor({ timeout: 20000 }).catch(() => wrong.push("the queue does not follow"));
await shoot(page, "approved");
await context.close();

// Without JavaScript: the same pages, a rejection needs a reason, and signing out ends it.
const plain = await signedIn({ javaScriptEnabled: false }, `/r/${reject}`);
await plain.page.getByRole("button", { name: "Reject" }).click();
check(await plain.page.getByRole("alert").isVisible(), "a rejection without a reason is not refused");
await plain.page.getByLabel("Comment").fill("wrong table");
await plain.page.getByRole("button", { name: "Reject" }).click();
await plain.page.locator(".pill.rejected").waitFor({ timeout: 20000 });
await plain.page.getByRole("button", { name: "Sign out" }).click();
check(await plain.page.getByRole("heading", { name: "Sign in to decide" }).isVisible(), "signing out does not end it");
await plain.context.close();
await browser.close();

if (wrong.length > 0) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
