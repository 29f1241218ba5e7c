"use strict";
// Only conveniences: without this script the page says the same.
const make = (label, act) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.addEventListener("click", () => act(button));
  return button;
};
const copy = (text, button) => {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  button.textContent = document.execCommand("copy") ? "copied" : "could not copy";
  area.remove();
  setTimeout(() => { button.textContent = button.dataset.label; }, 1500);
};
const copier = (label, text) => {
  const button = make(label, (self) => copy(text, self));
  button.dataset.label = label;
  return button;
};
for (const block of document.querySelectorAll("pre.command")) block.append(copier("copy", block.textContent));
for (const table of document.querySelectorAll(".body > .scroll > .program")) {
  const text = [...table.querySelectorAll("code")].map((code) => code.textContent).join("\n") + "\n";
  table.parentElement.previousElementSibling.append(copier("copy program", text));
}
const root = document.documentElement;
const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
document.getElementById("tools").append(make("light / dark", () => { root.dataset.theme = dark() ? "light" : "dark"; }));
const open = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", open);
open();
addEventListener("beforeprint", () => {
  for (const card of document.querySelectorAll(".card.new, .card.expired")) card.open = true;
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !["j", "k"].includes(event.key)) return;
  const cards = [...document.querySelectorAll(".card > summary")];
  const next = cards.indexOf(document.activeElement) + (event.key === "j" ? 1 : -1);
  if (cards[next]) cards[next].focus();
});
