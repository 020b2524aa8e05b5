// Small helpers for elements. Text is always set as text: nothing that a caption or a file name holds becomes HTML.

export const $ = (id) => document.getElementById(id);

/** A new element with properties (or attributes, where their name has a dash) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else if (name === "class") element.className = value;
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A sentence at the top of the page; none where the text is empty. */
export function note(text) {
  const element = $("note");
  element.textContent = text;
  element.hidden = !text;
}

export const urlOf = (id) => `/api/pictures/${encodeURIComponent(id)}`;

/** Save data as a file, without leaving the page. */
export function download(href, name) {
  const link = make("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

/** Fill a select with [value, label] pairs, and keep its value where it still is there. */
export function fillSelect(select, pairs) {
  const before = select.value;
  select.replaceChildren(...pairs.map(([value, label]) => make("option", { value, textContent: label })));
  if (pairs.some(([value]) => value === before)) select.value = before;
}

export const seconds = (number) =>
  number >= 90 ? `${Math.round(number / 60)} min` : `${Math.max(1, Math.round(number))} s`;
