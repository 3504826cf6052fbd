import { PostHog } from "posthog-node";

const { URL: host, KEY: key, HAPPENED, UUIDS } = process.env;
const timestamp = new Date(HAPPENED);
const uuids = UUIDS.split(",");
const client = new PostHog(key, { host, flushInterval: 100, fetchRetryDelay: 200 });
client.on("error", (error) => {
  console.error(error);
  process.exitCode = 1;
});
const user = { distinctId: "u-1", timestamp };
client.capture({ ...user, event: "order_completed", properties: { revenue: 19.9 }, uuid: uuids[0] });
client.capture({ ...user, event: "$pageview", uuid: uuids[1] });
client.capture({
  ...user,
  event: "$identify",
  properties: { $anon_distinct_id: "a-1", $set: { plan: "pro" } },
  uuid: uuids[2],
});
client.capture({ ...user, event: "$create_alias", properties: { alias: "a-2" }, uuid: uuids[3] });
client.identify({ distinctId: "u-3", properties: { plan: "free" } });
client.alias({ distinctId: "u-3", alias: "a-3" });
client.groupIdentify({ groupType: "company", groupKey: "acme", properties: { seats: 5 } });
await client.shutdown(20_000);
