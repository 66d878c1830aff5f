// A card for each connection: TLS, limits, HPACK, GOAWAY, and flow control over the last minute.

import {byId, element, facts, milliseconds, octets, saving, setText} from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const SERIES = [["send", "Send window"], ["receive", "Receive window"], ["queued", "Queued"], ["unread", "Unread"]];
const MINUTE = 60000;
const SHORTEST = 5000;
const cards = new Map();

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function makeCard(connection) {
  const card = element("article", {"aria-labelledby": `connection-${connection.number}`});
  const chart = svg("svg", {class: "chart", viewBox: "0 0 600 72", preserveAspectRatio: "none", "aria-hidden": "true"});
  const lines = SERIES.map(([kind]) => chart.appendChild(svg("polyline", {class: kind})));
  const values = SERIES.map(([kind, name]) => element("span", {class: kind}, `${name} `, element("b", {}, "–")));
  const title = element("h2", {id: `connection-${connection.number}`});
  const body = element("div");
  const flow = element("div", {}, element("h3", {}, "Flow control, up to a minute"), chart, element("p", {class: "series"}, ...values));
  card.append(title, body, flow);
  return {card, title, body, flow, lines, values};
}

function tlsText(tls) {
  return tls && [tls.version, tls.cipher, tls.alpn && `ALPN ${tls.alpn}`, tls.resumed ? "resumed" : "full handshake"].filter(Boolean).join(", ");
}

function settings(values) {
  return Object.entries(values).map(([name, value]) => `${name.toLowerCase().replaceAll("_", " ")} ${value.toLocaleString("en")}`).join(", ");
}

function update(entry, connection) {
  entry.card.classList.toggle("closed", connection.closed !== null);
  entry.title.replaceChildren(`${connection.number} · ${connection.client}`, element("span", {class: "tag"}, connection.protocol), element("span", {class: "tag"}, connection.closed === null ? "open" : "closed"));
  const {hpack, octets: [received, sent], frames} = connection;
  const goaways = connection.goaways.map((one) => `by the ${one.by}: last stream ${one.lastStream}, ${one.code}${one.text ? ` (${one.text})` : ""}`);
  entry.body.replaceChildren(facts([
    ["Server", connection.server], ["TLS", tlsText(connection.tls) ?? "none"], ["Client certificate", connection.tls?.clientCertificate],
    ["Engine", connection.engine],
    ["Age", connection.closed === null ? null : milliseconds(connection.closed - connection.opened)], ["Ended", connection.reason],
    ["Requests", `${connection.requests}${connection.resets ? `, ${connection.resets} reset` : ""}`],
    ["Octets", `${octets(received)} received, ${octets(sent)} sent`],
    ["Frames", frames[0] + frames[1] ? `${frames[0]} received, ${frames[1]} sent` : null],
    ["HPACK saving", hpack.in[1] + hpack.out[1] ? `${saving(...hpack.in)} received (${octets(hpack.in[0])} for ${octets(hpack.in[1])}), ${saving(...hpack.out)} sent (${octets(hpack.out[0])} for ${octets(hpack.out[1])})` : null],
    ["Our limits", settings(connection.limits)], ["Peer's settings", settings(connection.peerSettings)],
    ["GOAWAY", goaways.join("; ")],
  ]));
  if (connection.flows.length) {
    const heads = ["Stream", "Send window", "Receive window", "Unread", "Queued"].map((text) => element("th", {scope: "col"}, text));
    const rows = connection.flows.map((one) => element("tr", {}, ...[one.stream, ...[one.send, one.receive, one.unread, one.queued].map(octets)].map((text) => element("td", {}, String(text)))));
    entry.body.append(element("h3", {}, "Open streams"), element("table", {}, element("caption", {class: "quiet"}, "Open streams"), element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows)));
  }
}

function draw(entry, samples, now) {
  entry.flow.hidden = !samples?.length;
  if (!samples?.length) return;
  // time, send window, receive window, unread, queued
  const order = [1, 2, 4, 3];
  const last = samples.at(-1);
  const recent = samples.filter((sample, index) => (samples[index + 1]?.[0] ?? now) >= now - MINUTE);
  const top = Math.max(1, ...recent.flatMap((sample) => sample.slice(1)));
  const span = Math.min(MINUTE, Math.max(SHORTEST, now - samples[0][0]));
  const x = (time) => Math.max(0, 600 - (now - time) / span * 600).toFixed(1);
  const y = (value) => (68 - Math.max(value, 0) / top * 64).toFixed(1);
  order.forEach((column, index) => {
    const points = [];
    recent.forEach((sample, at) => {
      if (at) points.push(`${x(sample[0])},${y(recent[at - 1][column])}`);
      points.push(`${x(sample[0])},${y(sample[column])}`);
    });
    points.push(`600,${y(last[column])}`);
    entry.lines[index].setAttribute("points", points.join(" "));
    setText(entry.values[index].lastChild, octets(last[column]));
  });
}

export function renderConnections(state) {
  const list = byId("connection-list");
  const wanted = [...state.connections.values()].filter((one) => !state.filters.connection || String(one.number) === state.filters.connection);
  wanted.sort((a, b) => (a.closed !== null) - (b.closed !== null) || b.number - a.number);
  const numbers = new Set(wanted.map((one) => one.number));
  for (const [number, entry] of cards) {
    if (!numbers.has(number)) { entry.card.remove(); cards.delete(number); }
  }
  let place = list.firstChild;
  for (const connection of wanted) {
    let entry = cards.get(connection.number);
    if (!entry) { entry = makeCard(connection); cards.set(connection.number, entry); }
    update(entry, connection);
    draw(entry, state.samples.get(connection.number), state.now);
    if (entry.card === place) place = place.nextSibling;
    else list.insertBefore(entry.card, place);
  }
}
