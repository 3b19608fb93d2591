// What the pages do beyond being read: theme, menu, tabs, copying, the map's paths, search.
"use strict";

const page = document.documentElement;
const root = page.dataset.root;

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}

function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

// Theme
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
document.querySelector(".theme").addEventListener("click", () => {
  const isDark = page.dataset.theme ? page.dataset.theme === "dark" : systemIsDark.matches;
  page.dataset.theme = isDark ? "light" : "dark";
  remember("theme", page.dataset.theme);
});

// Menu of small screens
const menu = document.querySelector(".menu");
function openMenu(isOpen) {
  menu.setAttribute("aria-expanded", String(isOpen));
  page.classList.toggle("menu-open", isOpen);
}
menu.addEventListener("click", () => openMenu(menu.getAttribute("aria-expanded") !== "true"));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && page.classList.contains("menu-open")) {
    openMenu(false);
    menu.focus();
  }
});

// Tabs: one choice of tool for all pages
function choose(tool) {
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    const isChosen = tab.dataset.tool === tool;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).classList.toggle("later", !isChosen);
  }
}
for (const list of document.querySelectorAll('[role="tablist"]')) {
  const tabs = [...list.children];
  list.addEventListener("click", ({ target }) => {
    const tab = target.closest('[role="tab"]');
    if (!tab) return;
    const before = tab.getBoundingClientRect().top;
    choose(tab.dataset.tool);
    // Other tabs above may have changed their height: what was clicked stays under the pointer.
    scrollBy({ top: tab.getBoundingClientRect().top - before, behavior: "instant" });
    remember("tool", tab.dataset.tool);
  });
  list.addEventListener("keydown", (event) => {
    const here = tabs.indexOf(document.activeElement);
    const there = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: -1 }[event.key];
    if (there === undefined) return;
    event.preventDefault();
    const tab = tabs.at(there % tabs.length);
    tab.focus();
    tab.click();
  });
}
const tool = recall("tool");
if (tool && document.querySelector(`[role="tab"][data-tool="${CSS.escape(tool)}"]`)) choose(tool);

// Copying
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Over plain http a browser only copies what is selected.
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (!isCopied) throw new Error("the browser does not copy");
}
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    try {
      await copy(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it by hand";
    }
  });
  // It says so until its reader turns to something else.
  for (const leaving of ["blur", "pointerleave"]) {
    button.addEventListener(leaving, () => (button.textContent = "Copy"));
  }
}

// The map: the paths of what is pointed at or has the focus
const map = document.querySelector(".map svg");
if (map) {
  const edges = [...map.querySelectorAll(".edge")].map((edge) => [edge, edge.dataset.ends.split(" ")]);
  const nodes = [...map.querySelectorAll("[data-node]")];
  const trace = (name) => {
    const touched = new Set(name ? [name] : []);
    for (const [edge, ends] of edges) {
      const isOn = ends.includes(name);
      edge.classList.toggle("on", isOn);
      if (isOn) ends.forEach((end) => touched.add(end));
    }
    for (const node of nodes) node.classList.toggle("on", touched.has(node.dataset.node));
    map.classList.toggle("tracing", Boolean(name));
  };
  const named = (target) => target.closest?.("[data-node]")?.dataset.node;
  map.addEventListener("pointerover", ({ target }) => trace(named(target) ?? named(document.activeElement)));
  map.addEventListener("pointerleave", () => trace(named(document.activeElement)));
  map.addEventListener("focusin", ({ target }) => trace(named(target)));
  map.addEventListener("focusout", () => trace());
}

// Search
const finder = document.querySelector(".finder");
const [query, hits, hint] = ["input", "ul", ".hint"].map((part) => finder.querySelector(part));
const MOST_HITS = 12;
let chosen = 0;

function loadIndex() {
  if (window.searchIndex) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${root}search-index.js`;
    script.addEventListener("load", resolve);
    script.addEventListener("error", reject);
    document.head.append(script);
  });
}

/** How well an entry answers a word: its name before what is said about it; 0 for not at all. */
function score(entry, word) {
  const name = entry.name.toLowerCase();
  if (name === word) return 8;
  if (name.startsWith(word)) return 6;
  if (name.split(/[._[\]-]+/).some((part) => part.startsWith(word))) return 5;
  if (name.includes(word)) return 4;
  if (entry.words.toLowerCase().includes(word)) return 3;
  return entry.note.toLowerCase().includes(word) ? 1 : 0;
}

function find(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return window.searchIndex.slice(0, MOST_HITS);
  return window.searchIndex
    .map((entry) => [entry, words.map((word) => score(entry, word))])
    .filter(([, scores]) => scores.every(Boolean))
    .map(([entry, scores]) => [entry, scores.reduce((sum, one) => sum + one)])
    .sort(([, one], [, other]) => other - one)
    .slice(0, MOST_HITS)
    .map(([entry]) => entry);
}

function part(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

function show() {
  if (!window.searchIndex) return;
  const found = find(query.value);
  hits.replaceChildren(
    ...found.map((entry, position) => {
      const item = document.createElement("li");
      item.id = `hit-${position}`;
      item.setAttribute("role", "option");
      const link = document.createElement("a");
      link.href = root + entry.url;
      link.tabIndex = -1;
      link.append(part("b", entry.name), part("i", entry.kind), part("span", entry.note));
      item.append(link);
      return item;
    }),
  );
  hint.textContent = found.length ? "" : `Nothing is called “${query.value}”.`;
  choosing(0);
}

function choosing(position) {
  const items = [...hits.children];
  chosen = items.length && (position + items.length) % items.length;
  items.forEach((item, index) => item.setAttribute("aria-selected", String(index === chosen)));
  query.setAttribute("aria-activedescendant", items.length ? items[chosen].id : "");
  items[chosen]?.scrollIntoView({ block: "nearest" });
}

async function search() {
  if (finder.open) return;
  finder.showModal();
  query.select();
  try {
    await loadIndex();
    show();
  } catch {
    hint.textContent = "The search could not be loaded.";
  }
}

document.querySelector("button.search").addEventListener("click", search);
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  search();
});
query.addEventListener("input", show);
query.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    event.preventDefault();
    choosing(chosen + step);
  } else if (event.key === "Enter") {
    event.preventDefault();
    hits.children[chosen]?.querySelector("a").click();
  }
});
hits.addEventListener("pointermove", ({ target }) => {
  const position = [...hits.children].indexOf(target.closest("li"));
  if (position >= 0 && position !== chosen) choosing(position);
});
hits.addEventListener("click", () => finder.close());
finder.addEventListener("click", ({ target }) => {
  if (target === finder) finder.close();
});
