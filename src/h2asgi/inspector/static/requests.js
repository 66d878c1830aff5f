// The waterfall: a row for each request, and the details of the chosen one.

import {byId, element, facts, fieldTable, milliseconds, octets, setText} from "./dom.js";
import {frameRow} from "./frames.js";

const MAX_STREAM_FRAMES = 200;
const rows = new Map();
let chosen = null;

const end = (stream, now) => stream.ended ?? now;

export function shownRequests(state) {
  const {text, connection, status} = state.filters;
  return [...state.streams.values()].filter((stream) => {
    if (connection && String(stream.connection) !== connection) return false;
    if (status === "open" ? stream.ended !== null : status === "reset" ? !stream.resetBy : status && String(stream.status)[0] !== status) return false;
    return !text || `${stream.method} ${stream.target} ${type(stream)}`.toLowerCase().includes(text);
  });
}

function type(stream) {
  const found = stream.responseFields.find(([name]) => name === "content-type");
  return found ? found[1] : "";
}

function makeRow(stream, choose) {
  const name = element("button", {type: "button"});
  name.addEventListener("click", () => choose(stream.number));
  const cells = {
    name: element("td", {class: "name"}, name), status: element("td"), stream: element("td", {class: "stream"}),
    size: element("td", {class: "number"}), time: element("td", {class: "number"}), bars: element("td", {class: "bars"}),
  };
  const bar = element("div", {class: "bar", role: "img"});
  cells.bars.append(bar);
  const row = element("tr", {}, ...Object.values(cells));
  row.dataset.number = stream.number;
  return {row, cells, name, bar};
}

function update(entry, stream, now, own) {
  const {cells, name, bar} = entry;
  if (!name.firstChild) {
    name.append(element("span", {class: "method"}, stream.method), stream.target);
    name.title = stream.target;
    setText(cells.stream, `${stream.connection}:${stream.stream}`);
  }
  setText(cells.status, statusText(stream));
  cells.status.className = stream.resetBy || stream.status >= 500 ? "bad" : stream.status >= 400 ? "warn" : "";
  setText(cells.size, octets(stream.responseSize));
  const time = end(stream, now) - stream.started;
  setText(cells.time, stream.ended === null ? "…" : milliseconds(time));
  const zero = own ? stream.started : 0;
  const head = stream.responded ?? end(stream, now);
  const first = stream.firstOctet ?? head;
  const parts = [["wait", stream.started, head]];
  if (stream.responded !== null) parts.push(["head", head, first], ["body", first, end(stream, now)]);
  if (stream.resetBy) parts.push(["reset", stream.ended, stream.ended]);
  while (bar.children.length > parts.length) bar.lastChild.remove();
  parts.forEach(([kind, from, to], index) => {
    const part = bar.children[index] ?? bar.appendChild(element("i"));
    part.className = kind;
    part.style.setProperty("--start", (from - zero).toFixed(2));
    part.style.setProperty("--end", (Math.max(to, from) - zero).toFixed(2));
    part.hidden = kind === "head" && to - from <= 0;
  });
  bar.setAttribute("aria-label", `starts at ${milliseconds(stream.started)}, head after ${stream.responded === null ? "–" : milliseconds(head - stream.started)}, ${stream.ended === null ? "in flight" : `ends after ${milliseconds(time)}`}`);
}

export function statusText(stream) {
  if (stream.resetBy) return `reset by ${stream.resetBy}`;
  if (stream.tunnel && stream.ended === null && stream.status) return `${stream.status} ${stream.tunnel}`;
  return stream.status ? String(stream.status) : stream.reason ? "failed" : "…";
}

export function renderRequests(state, changed, choose) {
  const body = byId("waterfall").tBodies[0];
  const shown = shownRequests(state);
  const wanted = new Set(shown.map((stream) => stream.number));
  for (const [number, entry] of rows) {
    if (!wanted.has(number)) { entry.row.remove(); rows.delete(number); }
  }
  const own = state.filters.axis === "own";
  const from = own || !shown.length ? 0 : Math.min(...shown.map((stream) => stream.started));
  const until = Math.max(1, ...shown.map((stream) => end(stream, state.now) - (own ? stream.started : from)));
  const table = byId("waterfall");
  table.style.setProperty("--from", from.toFixed(2));
  table.style.setProperty("--span", until.toFixed(2));
  byId("ticks").replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map((part) => {
    const mark = element("span", {}, part ? milliseconds(until * part) : "0");
    mark.style.left = `${part * 100}%`;
    return mark;
  }));
  let place = body.firstChild;
  for (const stream of shown) {
    let entry = rows.get(stream.number);
    if (!entry) {
      entry = makeRow(stream, choose);
      rows.set(stream.number, entry);
      update(entry, stream, state.now, own);
    } else if (changed === null || changed.has(stream.number) || stream.ended === null) {
      update(entry, stream, state.now, own);
    }
    if (entry.row === place) place = place.nextSibling;
    else body.insertBefore(entry.row, place);
    entry.row.classList.toggle("chosen", stream.number === chosen);
  }
  if (chosen !== null && (changed === null || changed.has(chosen))) renderDetails(state, choose);
}

export function choose(state, number, again) {
  const before = chosen;
  chosen = number === chosen ? null : number;
  for (const [key, entry] of rows) entry.row.classList.toggle("chosen", key === chosen);
  renderDetails(state, again);
  if (chosen === null) rows.get(before)?.name.focus();
  else byId("details").focus();
}

function renderDetails(state, again) {
  const panel = byId("details");
  const stream = state.streams.get(chosen);
  panel.hidden = !stream;
  if (!stream) return;
  const close = element("button", {type: "button", class: "close"}, "Close");
  close.addEventListener("click", () => again(chosen));
  const after = (time) => time === null ? null : milliseconds(time - stream.started);
  const frames = state.frames.filter((frame) => frame.connection === stream.connection && frame.stream === stream.stream);
  panel.replaceChildren(
    element("h2", {id: "details-title"}, `${stream.method} ${stream.target}`), close,
    facts([
      ["Status", statusText(stream)], ["Protocol", stream.protocol],
      ["Stream", `${stream.stream} of connection ${stream.connection}`],
      ["Why", stream.reason], ["Error code", stream.resetBy ? stream.resetCode : null],
      ["Request body", stream.requestSize ? octets(stream.requestSize) : null],
      ["Response body", octets(stream.responseSize)],
      ["Messages", stream.tunnel && stream.protocol === "HTTP/2" ? `${stream.messages[0]} received, ${stream.messages[1]} sent` : null],
    ]),
    element("h3", {}, "Times after the request's head"),
    facts([
      ["Request complete", after(stream.requestEnded)], ["Response head", after(stream.responded)],
      ["First octet", after(stream.firstOctet)], ["End", after(stream.ended)],
    ]),
    element("h3", {}, "Request fields"), fieldTable("Request fields", stream.fields),
  );
  if (stream.responseFields.length) panel.append(element("h3", {}, "Response fields"), fieldTable("Response fields", stream.responseFields));
  if (stream.trailers.length) panel.append(element("h3", {}, "Trailers"), fieldTable("Trailers", stream.trailers));
  if (!frames.length) return;
  const body = element("tbody");
  for (const frame of frames.slice(-MAX_STREAM_FRAMES)) body.append(frameRow(frame, stream.started, true));
  const heads = ["After", "Direction", "Type", "Length", "Flags"].map((text) => element("th", {scope: "col"}, text));
  panel.append(
    element("h3", {}, `Frames of this stream (${frames.length})`),
    element("table", {}, element("caption", {class: "quiet"}, "Frames of this stream"), element("thead", {}, element("tr", {}, ...heads)), body),
  );
}
