import { CloudEvent, emitterFor, httpTransport, Mode } from "cloudevents";

const { URL: host, KEY: key, HAPPENED } = process.env;
const headers = { Authorization: `Bearer ${key}` };
const transport = httpTransport(`${host}/cloudevents`);
const order = (n) =>
  new CloudEvent({
    id: `order-${n}`,
    source: "/shop",
    type: "com.example.order.completed",
    subject: "u-1",
    time: HAPPENED,
    data: { revenue: 19.9, n },
  });
// A second time under the same id, as a sender does that heard no answer.
for (const [n, mode] of [[1, Mode.BINARY], [2, Mode.STRUCTURED], [1, Mode.STRUCTURED]]) {
  await emitterFor(transport, { mode })(order(n), { headers });
}
