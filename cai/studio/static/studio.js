// Keys, copying, and clean addresses. All else is done by the server and htmx.
"use strict";

const one = (selector) => document.querySelector(selector);
const follow = (selector) => one(selector)?.click();

function step(by) {
  const links = [...document.querySelectorAll(".list a, .list button")];
  if (!links.length) {
    follow(by > 0 ? "a[rel=next]" : "a[rel=prev]");
    return;
  }
  const now = links.indexOf(document.activeElement);
  const next = links[now < 0 ? 0 : now + by];
  next?.focus();
  next?.closest("li").scrollIntoView({ block: "nearest" });
}

async function copy(button) {
  const said = one("#copied");
  try {
    const answer = await fetch(button.dataset.copy);
    if (!answer.ok) throw new Error(answer.statusText);
    await navigator.clipboard.writeText(await answer.text());
    said.textContent = "copied";
  } catch {
    said.textContent = "the browser did not allow it";
  }
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  n: () => follow("a[rel=next]"),
  p: () => follow("a[rel=prev]"),
  u: () => follow("a[rel=up]"),
  c: () => follow("[data-copy]"),
  "/": () => one("#q")?.focus(),
  "?": () => one("#keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inField = event.target.closest("input:not([type=checkbox]), select, textarea");
  if (inField) {
    if (event.key === "Enter" && !event.shiftKey && inField.closest(".say")) {
      event.preventDefault();
      inField.form.requestSubmit();
    }
    if (event.key === "Escape" || (event.key === "Enter" && inField.id === "note")) {
      event.preventDefault(); // Escape would also empty a search
      inField.blur();
    }
    return;
  }
  const button = /^\w$/.test(event.key) && one(`[data-key="${event.key}"]`);
  const tab = /^[1-9]$/.test(event.key) && document.querySelectorAll(".tabs a")[event.key - 1];
  const action = button ? () => (button.matches("input, textarea") ? button.focus() : button.click()) : tab ? () => tab.click() : KEYS[event.key];
  if (action && !one("dialog[open]")) {
    event.preventDefault();
    action();
  }
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
  if (event.target.closest("[data-keys]")) one("#keys").showModal();
});

// An empty filter does not belong into an address.
document.addEventListener("htmx:configRequest", (event) => {
  for (const [name, value] of [...event.detail.formData.entries()]) {
    if (value === "") event.detail.formData.delete(name);
  }
});
