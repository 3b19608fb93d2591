// What moves by itself: live parts, times in the viewer's zone, copying, the theme. All else works without.
"use strict";

const POLL_MS = 15_000;
const RETRY_LIVE_AFTER_POLLS = 4;
// The page's language, in the way of the viewer's own country where it is spoken there.
const primary = document.documentElement.lang.slice(0, 2);
const language = navigator.languages.find((tag) => tag.startsWith(primary)) ?? document.documentElement.lang;
const main = document.querySelector("main");

// Times
const clock = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
const exact = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });

function localise(part) {
  for (const element of part.querySelectorAll("time[datetime]:not([title])")) {
    const moment = new Date(element.dateTime);
    element.title = exact.format(moment);
    element.textContent = clock.format(moment);
  }
}

/** Tell whoever draws from data of the page, such as a plot, that it is new. */
function freshen(part) {
  localise(part);
  part.dispatchEvent(new CustomEvent("console:fresh", { bubbles: true }));
}

// Live parts
/** What each part was when it came: the same again would only take focus, scrolling and selected text from the viewer. */
const contents = new WeakMap();
for (const part of document.querySelectorAll("[data-poll][id]")) contents.set(part, part.outerHTML);

function replace(incoming) {
  const present = document.getElementById(incoming.id);
  const content = incoming.outerHTML;
  if (present) {
    if (contents.get(present) === content) return;
    // Who is typing, or has opened something, is not disturbed.
    if (present.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) return;
    const focused = present.contains(document.activeElement) ? document.activeElement.id : "";
    for (const open of present.querySelectorAll("details[open][id]")) {
      incoming.querySelector(`#${CSS.escape(open.id)}`)?.setAttribute("open", "");
    }
    present.replaceWith(incoming);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  } else {
    const list = incoming.dataset.into && document.getElementById(incoming.dataset.into);
    if (!list || !("liveInsert" in list.dataset)) return;
    list.prepend(incoming);
    while (list.children.length > Number(list.dataset.most || 50)) list.lastElementChild.remove();
  }
  contents.set(incoming, content);
  htmx.process(incoming);
  freshen(incoming);
}

function show(html) {
  const template = document.createElement("template");
  template.innerHTML = html; // our own server's, escaped there; the policy lets no script in it run
  for (const incoming of [...template.content.children].reverse()) if (incoming.id) replace(incoming);
}

async function poll() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  // The session has ended: whoever signs in again comes back here.
  if (answer.redirected && new URL(answer.url).pathname.endsWith("/sign-in")) return location.reload();
  if (!answer.ok) throw new Error(`answered ${answer.status}`);
  if (answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of fresh.querySelectorAll("[data-poll][id]")) replace(document.adoptNode(part));
}

const state = document.getElementById("live");

function live(url) {
  let source;
  let polling;
  const say = (name, text) => {
    state.dataset.state = name;
    state.textContent = text;
  };
  const stop = () => {
    source?.close();
    clearInterval(polling);
    source = polling = undefined;
  };
  const pollOnly = () => {
    stop();
    say("polling", main.dataset.saidPolling);
    let polls = 0;
    polling = setInterval(() => {
      polls += 1;
      if (url && polls > RETRY_LIVE_AFTER_POLLS) open();
      else
        poll()
          .then(() => polling && say("polling", main.dataset.saidPolling))
          .catch(() => polling && say("lost", main.dataset.saidLost));
    }, POLL_MS);
  };
  const open = () => {
    stop();
    if (!url) return pollOnly();
    source = new EventSource(url);
    source.onopen = () => say("live", main.dataset.saidLive);
    source.onmessage = ({ data }) => show(data);
    source.addEventListener("drop", pollOnly);
    // Something may be missing here: the server says when, so that not all pages ask at once.
    source.addEventListener("fresh", ({ data }) => setTimeout(() => poll().catch(() => {}), Number(data)));
    // The browser itself tries again after a lost connection, but not after a refusal.
    source.onerror = () => (source.readyState === EventSource.CLOSED ? pollOnly() : say("lost", main.dataset.saidLost));
  };
  // A browser opens six connections to one host at most; pages that nobody sees need none.
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : poll().catch(() => {}).finally(open)));
  if (!document.hidden) open();
}

// An empty address: the page has no stream, and asks for itself.
if (main && "live" in main.dataset) live(main.dataset.live);

// Theme
document.querySelector("button.theme")?.addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    // Storage may be switched off: the choice holds for this page.
  }
  freshen(document.body);
});

// Copying
document.addEventListener("click", async ({ target }) => {
  const button = target.closest?.("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  const text = button.textContent;
  button.textContent = button.dataset.said;
  setTimeout(() => (button.textContent = text), 1500);
});

// A form is sent once, however often it is clicked.
document.addEventListener("submit", ({ target }) => {
  if (target.method !== "post" || target.hasAttribute("hx-post")) return;
  setTimeout(() => target.querySelectorAll("button").forEach((button) => (button.disabled = true)));
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("form[method=post] button:disabled")) button.disabled = false;
});

// htmx: what is refused is told at the top of the page.
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  if (detail.xhr.status < 400) return;
  detail.shouldSwap = true;
  detail.target = document.getElementById("toast");
  detail.swapOverride = "innerHTML";
});
document.addEventListener("htmx:afterSwap", ({ target }) => freshen(target));

localise(document);
document.querySelector(".sections [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
