// The frame log: a row for each frame that passed, the newest first.

import {byId, element, fieldTable, milliseconds, octets} from "./dom.js";

const MAX_ROWS = 500;

export function frameRow(frame, zero, short) {
  const cells = [
    element("td", {class: "number soft"}, milliseconds(Math.max(frame.time - zero, 0))),
    element("td", {class: frame.direction}, `${frame.direction === "in" ? "→" : "←"} ${short ? frame.direction : frame.direction === "in" ? "received" : "sent"}`),
    element("td", {class: "mono"}, frame.type),
  ];
  if (!short) cells.push(element("td", {class: "stream"}, `${frame.connection}:${frame.stream}`));
  cells.push(
    element("td", {class: short ? "" : "number"}, octets(frame.length)),
    element("td", {class: "soft flags"}, frame.flags.join(" ")),
  );
  if (!short) cells.push(element("td", {}, ...says(frame)));
  return element("tr", {}, ...cells);
}

function says(frame) {
  if (!frame.fields) return [frame.detail];
  const first = frame.fields.filter(([name]) => name.startsWith(":")).map(([, value]) => value).join(" ");
  const summary = element("summary", {}, `${first || "trailers"} · ${frame.fields.length} fields, ${frame.detail}`);
  return [element("details", {}, summary, fieldTable("Decoded fields", frame.fields))];
}

function matches(frame, {text, connection, direction}) {
  if (connection && String(frame.connection) !== connection) return false;
  if (direction && frame.direction !== direction) return false;
  if (!text) return true;
  const fields = (frame.fields ?? []).map((field) => field.join(": ")).join("\n");
  return `${frame.type} ${frame.stream} ${frame.flags.join(" ")} ${frame.detail}\n${fields}`.toLowerCase().includes(text);
}

export function renderFrames(state, fresh) {
  const body = byId("frame-table").tBodies[0];
  const zero = state.frames.length ? state.frames[0].time : 0;
  // What is there stays, so that an open row does not close, nor the focus get lost.
  const source = fresh === null ? state.frames : fresh;
  if (fresh === null) body.replaceChildren();
  const rows = source.filter((frame) => matches(frame, state.filters)).slice(-MAX_ROWS).reverse();
  body.prepend(...rows.map((frame) => frameRow(frame, zero, false)));
  while (body.rows.length > MAX_ROWS) body.lastChild.remove();
}
