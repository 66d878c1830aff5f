// Elements, numbers and texts as the views need them. Text is set as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (value === true) made.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function octets(count) {
  if (count < 1000) return `${count} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let power = -1;
  do { count /= 1000; power += 1; } while (count >= 999.5 && power < units.length - 1);
  return `${count < 10 ? count.toFixed(1) : Math.round(count)} ${units[power]}`;
}

export function milliseconds(time) {
  if (time === null || time === undefined) return "–";
  if (time < 10) return `${time.toFixed(2)} ms`;
  if (time < 1000) return `${Math.round(time)} ms`;
  return `${(time / 1000).toFixed(time < 10000 ? 2 : 1)} s`;
}

export function saving(sent, meant) {
  return meant > 0 ? `${Math.round((1 - sent / meant) * 100)} %` : "–";
}

export function facts(pairs) {
  const list = element("dl", {class: "facts"});
  for (const [term, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(element("dt", {}, term), element("dd", {}, String(value)));
  }
  return list;
}

export function fieldTable(label, fields) {
  const body = element("tbody");
  for (const [name, value] of fields) {
    const masked = value.includes("[masked]") ? "masked" : "";
    body.append(element("tr", {}, element("th", {scope: "row"}, name), element("td", {class: masked}, value)));
  }
  return element("table", {class: "fields"}, element("caption", {class: "quiet"}, label), body);
}
