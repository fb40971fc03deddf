// Keeps a page up to date, and sends its forms without leaving it. Without this script
// everything works too, a page at a time.
"use strict";

const page = document.body.dataset.page;
const connection = document.getElementById("connection");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// What the reader decides: whether something is open, and what is chosen.
const readers = new Set(["open", "selected"]);

// A copy for this page; what it says is chosen counts only on a page that is new.
function copy(node) {
  const it = document.importNode(node, true);
  if (it.nodeName === "OPTION") it.removeAttribute("selected");
  return it;
}

// Makes `old` what `now` is and keeps whatever is the same, so that focus, selection and
// scrolling stay where they are.
function morph(old, now) {
  if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName) {
    old.replaceWith(copy(now));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== now.nodeValue) old.nodeValue = now.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!now.hasAttribute(name) && !readers.has(name)) old.removeAttribute(name);
  }
  for (const { name, value } of now.attributes) {
    if (old.getAttribute(name) !== value && !readers.has(name)) old.setAttribute(name, value);
  }
  const key = (node) => node.dataset?.key || node.id;
  const known = new Map([...old.children].filter(key).map((child) => [key(child), child]));
  let at = old.firstChild;
  for (const child of now.childNodes) {
    const same = known.get(key(child));
    if (same && same !== at) {
      // One that is focused is not moved: moving takes the focus away.
      if (same.contains(document.activeElement)) {
        while (at && at !== same) {
          const next = at.nextSibling;
          at.remove();
          at = next;
        }
      } else {
        old.insertBefore(same, at);
        at = same;
      }
    } else if (!same && at && key(at) && key(at) !== key(child)) {
      at = old.insertBefore(copy(child), at).nextSibling;
      continue;
    }
    if (!at) {
      old.append(copy(child));
      continue;
    }
    const next = at.nextSibling;
    morph(at, child);
    at = next;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function places() {
  const all = new Map();
  for (const chip of document.querySelectorAll("[data-session]")) {
    all.set(chip.dataset.session, chip.getBoundingClientRect());
  }
  return all;
}

// A session that is somewhere else now is seen to go there.
function glide(before) {
  if (calm.matches) return;
  for (const chip of document.querySelectorAll("[data-session]")) {
    const was = before.get(chip.dataset.session);
    if (!was) continue;
    const is = chip.getBoundingClientRect();
    const [x, y] = [was.left - is.left, was.top - is.top];
    if (Math.abs(x) + Math.abs(y) < 40) continue;
    chip.animate(
      [{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }],
      { duration: 450, easing: "ease-in-out" },
    );
  }
}

function show(fragments) {
  const before = places();
  for (const [id, html] of Object.entries(fragments)) {
    const old = document.getElementById(id);
    const now = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    if (old && now) morph(old, now);
  }
  glide(before);
}

function state(state, words) {
  if (connection.dataset.state === state) return;
  connection.dataset.state = state;
  connection.textContent = words;
}

// The server beats every two seconds. A browser may never notice that it has gone, or the way
// to it: three beats that do not come say so.
const silence = 7000;

function follow() {
  const events = new EventSource(`/events?page=${encodeURIComponent(page)}`);
  const lose = () => {
    clearTimeout(waiting);
    events.close();
    state("lost", "connection lost: what is shown may be old; trying again");
    setTimeout(follow, 3000);
  };
  let waiting = setTimeout(lose, silence);
  const on = (name, then) => events.addEventListener(name, (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(lose, silence);
    state("live", "live");
    then?.(event);
  });
  on("open");
  on("beat");
  on("fragments", (event) => show(JSON.parse(event.data)));
  on("said", (event) => {
    document.getElementById("said").textContent = event.data;
  });
  events.addEventListener("error", lose);
}

function notice(good, text) {
  const line = document.getElementById("notice");
  line.dataset.good = String(good);
  line.textContent = text;
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.getAttribute("action") !== "/act") return;
  event.preventDefault();
  const button = event.submitter;
  if (button.getAttribute("aria-disabled") === "true") return;
  // Not `disabled`: that would take the focus away.
  button.setAttribute("aria-disabled", "true");
  try {
    const answer = await fetch("/act", {
      method: "POST",
      headers: { accept: "application/json" },
      body: new URLSearchParams(new FormData(form, button)),
    });
    const said = await answer.json();
    notice(said.good, said.text);
  } catch {
    notice(false, "The dashboard does not answer; whether anything was done is not known.");
  } finally {
    button.removeAttribute("aria-disabled");
  }
});

follow();
