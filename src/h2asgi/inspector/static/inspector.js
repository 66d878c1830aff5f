// What the server tells, kept within bounds, and the view that is open.

import {renderConnections} from "./connections.js";
import {byId, element, octets, saving, setText} from "./dom.js";
import {renderFrames} from "./frames.js";
import {choose, renderRequests, shownRequests} from "./requests.js";

// As many as the server keeps.
const MAX_STREAMS = 500;
const MAX_FRAMES = 4000;
const MAX_SAMPLES = 240;
const MAX_CONNECTIONS = 100;
const VIEWS = ["requests", "frames", "connections"];

const state = {
  connections: new Map(), streams: new Map(), frames: [], samples: new Map(), skipped: [0, 0, 0, 0],
  filters: {text: "", connection: "", status: "", direction: "", axis: "shared"},
  now: 0, view: "requests", paused: false, waiting: [],
};
let told = [0, 0]; // the server's time, and ours when it was told

function limit(map, size) {
  while (map.size > size) map.delete(map.keys().next().value);
}

function take(news) {
  if (news.first) forget();
  const changed = new Set();
  for (const stream of news.streams ?? []) { state.streams.set(stream.number, stream); changed.add(stream.number); }
  limit(state.streams, MAX_STREAMS);
  for (const connection of news.connections ?? []) {
    if (!state.connections.has(connection.number)) addChoice(connection);
    state.connections.set(connection.number, connection);
  }
  limit(state.connections, MAX_CONNECTIONS);
  const frames = news.frames ?? [];
  for (const frame of frames) if (frame.stream) for (const [number, stream] of state.streams) if (stream.stream === frame.stream && stream.connection === frame.connection) changed.add(number);
  state.frames = state.frames.concat(frames).slice(-MAX_FRAMES);
  for (const [number, ...sample] of news.samples ?? []) {
    const kept = state.samples.get(number) ?? [];
    kept.push(sample);
    state.samples.set(number, kept.slice(-MAX_SAMPLES));
  }
  for (const number of state.samples.keys()) if (!state.connections.has(number)) state.samples.delete(number);
  if (news.skipped) state.skipped = news.skipped;
  if (news.now !== undefined) told = [news.now, performance.now()];
  return {changed, frames};
}

function forget() {
  state.streams.clear();
  state.connections.clear();
  state.samples.clear();
  state.frames = [];
  state.skipped = [0, 0, 0, 0];
  byId("filter-connection").replaceChildren(element("option", {value: ""}, "all"));
  byId("filter-connection").value = state.filters.connection = "";
}

function addChoice(connection) {
  const choices = byId("filter-connection");
  choices.append(element("option", {value: connection.number}, `${connection.number} · ${connection.client}`));
  if (choices.length > MAX_CONNECTIONS + 1) choices.remove(1);
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

function renderTotals() {
  const connections = [...state.connections.values()];
  const streams = [...state.streams.values()];
  setText(byId("total-connections"), `${connections.filter((one) => one.closed === null).length}`);
  setText(byId("total-requests"), String(sum(connections.map((one) => one.requests))));
  setText(byId("total-open"), String(streams.filter((one) => one.ended === null && !one.reason).length));
  setText(byId("total-resets"), String(sum(connections.map((one) => one.resets))));
  setText(byId("total-in"), octets(sum(connections.map((one) => one.octets[0]))));
  setText(byId("total-out"), octets(sum(connections.map((one) => one.octets[1]))));
  const blocks = connections.map((one) => [one.hpack.in[0] + one.hpack.out[0], one.hpack.in[1] + one.hpack.out[1]]);
  setText(byId("total-hpack"), saving(sum(blocks.map(([sent]) => sent)), sum(blocks.map(([, meant]) => meant))));
  const kinds = ["connections", "requests", "frames", "pauses"];
  const skipped = kinds.map((kind, index) => state.skipped[index] && `${state.skipped[index]} ${kind}`).filter(Boolean);
  byId("skipped-tile").hidden = !skipped.length;
  setText(byId("total-skipped"), skipped.join(", "));
}

// changed and frames say what is new; null draws everything.
function render(changed, frames) {
  state.now = told[0] + performance.now() - told[1];
  renderTotals();
  if (state.view === "requests") renderRequests(state, changed, chooseRequest);
  else if (state.view === "frames") renderFrames(state, frames);
  else renderConnections(state);
  for (const note of document.querySelectorAll("[data-empty]")) {
    const shown = note.dataset.empty === "requests" ? shownRequests(state).length : note.dataset.empty === "frames" ? byId("frame-table").tBodies[0].rows.length : state.connections.size;
    note.hidden = shown > 0;
  }
}

function chooseRequest(number) {
  choose(state, number, chooseRequest);
}

function show(view) {
  state.view = view;
  for (const name of VIEWS) {
    const tab = byId(`tab-${name}`);
    tab.setAttribute("aria-selected", String(name === view));
    tab.tabIndex = name === view ? 0 : -1;
    byId(name).hidden = name !== view;
  }
  for (const part of document.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(view);
  render(null, null);
}

function tell(text, kind) {
  const status = byId("status");
  if (status.dataset.state === kind) return; // read aloud only when it changes
  status.dataset.state = kind;
  status.textContent = text;
}

function setPaused(paused) {
  state.paused = paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  if (paused) return tell("Paused", "paused");
  tell("Recording", "live");
  render(null, null);
}

function listen() {
  const source = new EventSource("api/events");
  source.addEventListener("open", () => tell(state.paused ? "Paused" : "Recording", state.paused ? "paused" : "live"));
  source.addEventListener("error", () => tell("The server is gone; trying again", "lost"));
  source.addEventListener("message", (event) => {
    const {changed, frames} = take(JSON.parse(event.data));
    if (!state.paused) render(changed, frames);
  });
}

for (const [id, name] of [["filter-text", "text"], ["filter-connection", "connection"], ["filter-status", "status"], ["filter-direction", "direction"], ["axis", "axis"]]) {
  byId(id).addEventListener("input", (event) => {
    state.filters[name] = name === "text" ? event.target.value.trim().toLowerCase() : event.target.value;
    render(null, null);
  });
}
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("pause").addEventListener("click", () => setPaused(!state.paused));
byId("clear").addEventListener("click", async () => {
  await fetch("api/clear", {method: "POST"});
  for (const [number, one] of state.connections) if (one.closed !== null) state.connections.delete(number);
  state.streams.clear();
  state.frames = [];
  state.skipped = [0, 0, 0, 0];
  render(null, null);
});
for (const name of VIEWS) byId(`tab-${name}`).addEventListener("click", () => show(name));
document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
  const step = {ArrowRight: 1, ArrowLeft: VIEWS.length - 1}[event.key];
  if (!step) return;
  const next = VIEWS[(VIEWS.indexOf(state.view) + step) % VIEWS.length];
  show(next);
  byId(`tab-${next}`).focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.view === "requests") byId("details").querySelector(".close")?.click();
});
// Bars of what is in flight grow, though there is no news of it.
setInterval(() => {
  const growing = [...state.streams.values()].some((one) => one.ended === null);
  if (!state.paused && (growing || state.view === "connections") && !document.hidden) render(new Set(), []);
}, 500);
show("requests");
listen();
