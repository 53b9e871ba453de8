// The audit log: what an event costs its writer, and how fast events are sealed and verified.
import pg from "pg";
import { AgentStoreClient } from "../client/index.js";
import { AddMessageRequest, Role } from "../gen/agentstore/v1/messages.js";
import { type Context, loadServer, method } from "./lib/context.js";
import { type Figure, Samples } from "./lib/figures.js";
import { fill, text } from "./lib/fill.js";
import { startServer } from "./lib/server.js";

const LEVELS = [1, 16, 64];
const DATABASE = "audit";

/** Measures the group. */
export async function measureAudit(context: Context): Promise<Figure[]> {
  const { store, rounds, seconds, say, quick } = context;
  const samples = new Samples("audit");
  const admin = new pg.Client(store.databaseUrl());
  await admin.connect();
  await admin.query(`CREATE DATABASE ${DATABASE}`);
  await admin.end();
  const databaseUrl = store.databaseUrl(DATABASE);
  const log = `${store.directory}/audit.log`;
  const plain = await startServer(databaseUrl, log);
  const audited = await startServer(databaseUrl, log, "--audit-appends");
  try {
    const sessions = Math.max(...LEVELS);
    const first = await fill(databaseUrl, {
      modelId: "audit",
      sessions,
      messages: 10,
      characters: [200, 800],
    });
    const add = (callers: number) => ({
      path: method("AddMessage"),
      requests: Array.from({ length: callers }, (_, n) => addMessage(first + BigInt(n))),
      callers,
      until: { seconds },
    });
    // The first round warms up and is not counted.
    for (let round = 0; round <= rounds; round++) {
      say(`audit: round ${round} of ${rounds}`);
      const counted = round === 0 ? new Samples("warm-up") : samples;
      for (const callers of LEVELS) {
        for (const [name, server] of [
          ["plain", plain],
          ["audited", audited],
        ] as const) {
          const { perSecond, p50, serverMicros } = await loadServer(context, add(callers), server);
          counted.add(`${name} rate ${callers}`, perSecond);
          counted.add(`${name} p50 ${callers}`, p50);
          counted.add(`${name} cpu ${callers}`, serverMicros);
        }
      }
    }
    await sealing(samples, databaseUrl, plain.address, quick ? 5_000 : 50_000, rounds);
  } finally {
    await plain.stop();
    await audited.stop();
  }
  return [
    ...LEVELS.map((callers) =>
      samples.ratio(`AddMessage, ${callers} callers, audited`, "/s", `audited rate ${callers}`, {
        name: "/s, not audited",
        sample: `plain rate ${callers}`,
      }),
    ),
    samples.ratio("AddMessage, 1 caller, audited", "ms", "audited p50 1", {
      name: "ms, not audited",
      sample: "plain p50 1",
    }),
    samples.ratio("server CPU of AddMessage, 64 callers, audited", "µs", "audited cpu 64", {
      name: "µs, not audited",
      sample: "plain cpu 64",
    }),
    samples.value("events sealed", "/s", "sealed"),
    samples.value("events verified", "/s", "verified"),
  ];
}

// A VerifyAudit seals what is there first, so a second one tells the two apart.
async function sealing(
  samples: Samples,
  databaseUrl: string,
  address: string,
  events: number,
  rounds: number,
): Promise<void> {
  const client = new AgentStoreClient({ url: `agentstore://${address}`, timeoutMs: 600_000 });
  const database = new pg.Client(databaseUrl);
  await database.connect();
  try {
    let { end } = await client.verifyAudit();
    for (let round = 0; round < rounds; round++) {
      await database.query(
        `INSERT INTO audit_inbox
           (tenant_id, at, principal, peer, rpc, conversation_id, fields, request_id, hash)
         SELECT 'default', now(), 'bench', '127.0.0.1:1', 'UpdateSession', n, '{title}', '', sha256('')
           FROM generate_series(1, $1::int) AS n`,
        [events],
      );
      const sealing = performance.now();
      // It stops at the first of them, whose hash is none; what it seals before that is what counts.
      await client.verifyAudit({ after: end });
      samples.add("sealed", events / ((performance.now() - sealing) / 1000));
      const { rows } = await database.query<{ position: string; chain: Buffer }>(
        "SELECT position, chain FROM audit_heads WHERE tenant_id = 'default'",
      );
      const head = rows[0];
      if (head) end = { position: BigInt(head.position), chain: head.chain };
    }
    const verifying = performance.now();
    const { checked } = await client.verifyAudit();
    samples.add("verified", Number(checked) / ((performance.now() - verifying) / 1000));
  } finally {
    client.close();
    await database.end();
  }
}

function addMessage(conversationId: bigint): Uint8Array {
  const message = { role: Role.USER, content: text(Number(conversationId), [200, 800]) };
  return AddMessageRequest.encode(
    AddMessageRequest.fromPartial({ conversationId, message } as never),
  ).finish();
}
