// Serves from a build and tells its CPU time; see stream-messages.mjs.
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { pino } from "pino";

const [dist, databaseUrl] = process.argv.slice(2);
const { startApp } = await import(pathToFileURL(join(dist, "server/app.js")).href);
const options = { host: "127.0.0.1", port: 0, poolSize: 8, maxMessageBytes: 4_194_304, graceMs: 0 };
const app = await startApp(databaseUrl, options, pino({ level: "silent" }));

process.on("message", () => {
  const { user, system } = process.cpuUsage();
  process.send((user + system) / 1000);
});
process.send(app.address);
