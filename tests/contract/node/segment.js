import { Analytics } from "@segment/analytics-node";

const { URL: host, KEY: writeKey, HAPPENED } = process.env;
const timestamp = new Date(HAPPENED);
const analytics = new Analytics({ host, writeKey, flushInterval: 100 });
analytics.on("error", (error) => {
  console.error(error);
  process.exitCode = 1;
});
const user = { userId: "u-1", timestamp };
analytics.identify({ ...user, anonymousId: "a-1", traits: { plan: "pro" }, messageId: "m-identify" });
analytics.track({ ...user, event: "Order Completed", properties: { revenue: 19.9 }, messageId: "m-track" });
analytics.page({ ...user, category: "Docs", name: "Home", properties: { path: "/" }, messageId: "m-page" });
analytics.screen({ anonymousId: "a-1", timestamp, category: "Shop", name: "Cart", messageId: "m-screen" });
analytics.group({ ...user, groupId: "acme", traits: { seats: 5 }, messageId: "m-group" });
analytics.alias({ userId: "u-2", previousId: "a-2", timestamp, messageId: "m-alias" });
await analytics.closeAndFlush({ timeout: 20_000 });
