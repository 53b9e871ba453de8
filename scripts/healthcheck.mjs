// Asks a server for its health (grpc.health.v1.Health) and ends with code 0 when it is SERVING.
// Usage: healthcheck.mjs [HOST:PORT [CA-FILE]]; with a CA file over TLS, else in clear.
import { readFileSync } from "node:fs";
import { Client, credentials } from "@grpc/grpc-js";

const TIMEOUT_MS = 3_000;
// HealthCheckRequest with no service, which asks for the whole server, and the HealthCheckResponse
// with the status SERVING (field 1, a varint, 1).
const REQUEST = Buffer.alloc(0);
const SERVING = Buffer.from([0x08, 0x01]);

const [address = "127.0.0.1:50051", caFile] = process.argv.slice(2);
const client = new Client(
  address,
  caFile ? credentials.createSsl(readFileSync(caFile)) : credentials.createInsecure(),
);
client.makeUnaryRequest(
  "/grpc.health.v1.Health/Check",
  (/** @type {Buffer} */ request) => request,
  (response) => response,
  REQUEST,
  { deadline: Date.now() + TIMEOUT_MS },
  (error, response) => {
    client.close();
    if (error === null && response?.equals(SERVING)) return;
    process.stderr.write(`${address} ${error?.message ?? "is not serving"}\n`);
    process.exitCode = 1;
  },
);
