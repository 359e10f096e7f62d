// Short ways to the document: an element by its id, a new element, an icon of the page's sprite.
export const $ = (id) => document.getElementById(id);

/** @returns {HTMLElement} */
export function element(kind, text = "", className = "") {
  const made = document.createElement(kind);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function icon(name) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  made.setAttribute("aria-hidden", "true");
  made.append(use);
  return made;
}

// A button that shows an icon; its label is what the others read.
export function iconButton(name, label, className = "") {
  const made = element("button", "", `icon ${className}`);
  made.type = "button";
  made.title = label;
  made.setAttribute("aria-label", label);
  made.append(icon(name));
  return made;
}
