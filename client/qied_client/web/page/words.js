// Puts the phrases of the language that the person reads into the page.
import { CODES, PHRASES } from "./phrases.js";

const KEY = "qied.language";
let language = localStorage.getItem(KEY) ?? (navigator.language.startsWith("zh") ? "zh" : "en");

export function say(key, values = {}) {
  return PHRASES[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export function currentLanguage() { return language; }

// Put the phrases into everything that names one: texts, titles and labels. A key goes behind a title.
export function translate(root = document) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const item of root.querySelectorAll("[data-words]")) item.textContent = say(item.dataset.words);
  for (const item of root.querySelectorAll("[data-title]")) {
    const text = say(item.dataset.title);
    item.title = item.dataset.key ? `${text} (${item.dataset.key})` : text;
    item.setAttribute("aria-label", text);
  }
  for (const item of root.querySelectorAll("[data-label]")) item.setAttribute("aria-label", say(item.dataset.label));
  for (const item of root.querySelectorAll("[data-hint]")) item.placeholder = say(item.dataset.hint);
}

export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem(KEY, language);
  translate();
}

// What the server says is English and exact; in another language, what it means comes first where that is known.
export function explained({ code, message, remedy }) {
  const exact = [message, remedy].filter(Boolean).join(" ");
  const meaning = language === "zh" ? CODES.zh[code] : null;
  return meaning && exact ? `${meaning}（${exact}）` : meaning ?? exact;
}

/** One of these, as the language lists them. */
export function either(names) {
  return new Intl.ListFormat(language === "zh" ? "zh-CN" : "en-GB", { type: "disjunction" }).format(names);
}

export function duration(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 10) return say("seconds", { n: seconds.toFixed(1) });
  if (seconds < 90) return say("seconds", { n: Math.round(seconds) });
  if (seconds < 5400) return say("minutes", { n: Math.round(seconds / 60) });
  return say("hours", { n: Math.round(seconds / 3600) });
}

export function bytes(size) { return `${(size / 1e9).toFixed(1)} GB`; }
