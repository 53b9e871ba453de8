// Writers and watchers on two servers, while servers, Postgres' backends and the connections that
// listen are killed, and wake-ups are lost: every watcher is told everything once, and in order.
import { randomInt, randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AgentStoreError } from "../../client/errors.js";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../server/db/embedded.js";
import { assertChangesTile } from "../harness/changes.js";
import { backendsOf, freePort, randomFrom } from "../harness/chaos.js";
import { type Follower, SessionFollower, StoreFollower } from "../harness/followers.js";
import { withClient } from "../harness/postgres.js";
import { until } from "../harness/postgres-watch.js";
import { type SpawnedServer, spawnServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";
import { assertTold, type Told } from "../harness/watching.js";

const SESSIONS = 4;
const WRITERS = 3;
const STORE_FOLLOWERS = 3;

const rounds = Number(process.env.CHAOS_WATCH_ROUNDS ?? 4);
const seed = Number(process.env.CHAOS_SEED ?? randomInt(2 ** 31));
const random = randomFrom(seed);

let dataDir: string;
let postgres: EmbeddedPostgres;
let ports: number[];
let servers: SpawnedServer[] = [];
let stubs: Stubs[] = [];

const serve = (index: number) =>
  spawnServer([
    `--database-url=${postgres.url}`,
    "--log-level=error",
    "--port",
    String(ports[index]),
  ]);

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "chaos-watch-"));
  postgres = await startEmbeddedPostgres({ dataDir, log: pino({ level: "silent" }) });
  ports = [await freePort(), await freePort()];
  servers = [await serve(0), await serve(1)];
  stubs = servers.map(({ address }) => new Stubs(address));
});

afterAll(async () => {
  for (const channel of stubs) channel.close();
  for (const server of servers) await server.end("SIGKILL");
  await postgres.stop();
  await rm(dataDir, { recursive: true, force: true });
});

const kills = [
  () => endConnections("agentstore changes"),
  () => killServer(random(2)),
  () => killBackend(),
  () => endConnections("agentstore watch"),
  () => Promise.all([killServer(0), killServer(1)]),
  () => writeSilently(),
];

async function killServer(index: number): Promise<void> {
  await servers[index]!.end("SIGKILL");
  servers[index] = await serve(index);
}

async function killBackend(): Promise<void> {
  const backends = backendsOf(postgres.pid()!);
  const backend = backends[random(Math.max(1, backends.length))];
  if (backend !== undefined) process.kill(backend, "SIGKILL");
  await until("Postgres is back", () =>
    withClient(postgres.url, (client) => client.query("SELECT 1")).catch(() => false as const),
  );
}

async function endConnections(name: string): Promise<void> {
  await withClient(postgres.url, (client) =>
    client.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
      [name],
    ),
  );
}

// A title that nobody is woken for: the wake-up of it is lost.
async function writeSilently(): Promise<void> {
  await withClient(postgres.url, (client) =>
    client.query(
      `WITH changed AS (
         UPDATE conversations SET title = 'silent', revision = revision + 1
          WHERE id = (SELECT min(id) FROM conversations)
         RETURNING id, revision
       )
       INSERT INTO session_changes
         (conversation_id, tenant_id, first_revision, last_revision, removed, at)
       SELECT id, 'default', revision, revision, false, now() FROM changed`,
    ),
  );
}

// Any write; the store may be away, and then nobody knows.
async function writeOnce(sessions: bigint[]): Promise<void> {
  const channel = stubs[random(2)]!;
  const conversationId = sessions[random(sessions.length)]!;
  const seq = BigInt(1 + random(20));
  const content = randomUUID();
  switch (random(8)) {
    case 0:
      await channel.call("updateMessage", {
        message: { conversationId, seq, content } as never,
        updateMask: ["content"],
      });
      return;
    case 1:
      await channel.call("deleteMessage", { conversationId, seq });
      return;
    case 2:
      await channel.call("undeleteMessage", { conversationId, seq });
      return;
    case 3:
      await channel.call("updateSession", {
        session: { id: conversationId, title: content } as never,
        updateMask: ["title"],
      });
      return;
    case 4: {
      const { session } = await channel.call("createSession", { modelId: "chaos" });
      const { id } = session!;
      await channel.call("addMessage", { conversationId: id, message: newMessage({ content }) });
      if (random(2) === 0) await channel.call("deleteSession", { conversationId: id });
      return;
    }
    default: {
      const messages = Array.from({ length: 1 + random(5) }, () =>
        newMessage({ content: randomUUID() }),
      );
      await channel.call("addMessages", { conversationId, messages });
    }
  }
}

test(
  `${rounds} kills: every watcher is told every change once, in order`,
  async () => {
    process.stdout.write(`chaos: ${rounds} kills under watchers, CHAOS_SEED=${seed}\n`);
    const sessions: bigint[] = [];
    for (let n = 0; n < SESSIONS; n++) {
      const { session } = await stubs[0]!.call("createSession", { modelId: "chaos" });
      sessions.push(session!.id);
    }
    let following = true;
    const shared = { servers: stubs, random, goOn: () => following };
    const followers: Follower[] = [
      ...sessions.map((id) => new SessionFollower(shared, id)),
      ...sessions.map((id) => new SessionFollower(shared, id)),
      ...Array.from({ length: STORE_FOLLOWERS }, () => new StoreFollower(shared)),
    ];
    const followed = Promise.all(followers.map((follower) => follower.run()));
    followed.catch(() => {});
    let writing = true;
    let written = 0;
    let broken: unknown;
    const writers = Array.from({ length: WRITERS }, async () => {
      while (writing) {
        try {
          await writeOnce(sessions);
          written++;
        } catch (error) {
          // Messages that are not there, or are deleted already, and a store that is away.
          if (!(error instanceof AgentStoreError) || error.code === "INTERNAL") {
            broken = error;
            return;
          }
        }
      }
    });
    const more = async (count: number) => {
      const before = written;
      await until("writes go on", () => {
        if (broken) throw broken;
        return written >= before + count;
      });
    };
    for (let round = 0; round < rounds; round++) {
      await more(15);
      await sleep(random(200));
      await kills[round % kills.length]!();
    }
    await more(15);
    writing = false;
    await Promise.all(writers);
    // The end, which every follower comes to.
    for (const id of sessions) {
      const message = newMessage({ content: "end" });
      await stubs[0]!.call("addMessage", { conversationId: id, message });
    }
    const isEnd = ({ content }: Told) => content === "end";
    await until("everybody is told of the end", () =>
      followers.every(
        (follower) =>
          follower.current.filter(isEnd).length >=
          (follower instanceof SessionFollower ? 1 : sessions.length),
      ),
    );
    following = false;
    await followed;

    const stored = await withClient(postgres.url, async (client) => {
      const { rows } = await client.query<{ id: string }>("SELECT id FROM conversations");
      return rows.map(({ id }) => BigInt(id));
    });
    for (const follower of followers) {
      if (follower instanceof SessionFollower) {
        await assertTold(postgres.url, follower.id, follower.told);
        continue;
      }
      for (const id of stored) await assertTold(postgres.url, id, follower.told);
      // And of those that are gone, nothing twice.
      const versions = follower.told.filter(({ kind }) => kind !== "sessionChanged");
      const keys = versions.map(({ id, revision, kind }) => `${id} ${revision} ${kind}`);
      expect(new Set(keys).size).toBe(keys.length);
      const gone = versions.filter(({ kind }) => kind === "sessionDeleted").map(({ id }) => id);
      const heard = new Set(follower.told.map(({ id }) => id));
      for (const id of heard) expect(stored.includes(id)).toBe(!gone.includes(id));
    }
    await assertChangesTile(postgres.url);
    const watches = followers.reduce((sum, follower) => sum + follower.watches, 0);
    const told = followers.reduce((sum, follower) => sum + follower.told.length, 0);
    const failures: Record<string, number> = {};
    for (const follower of followers) {
      for (const [name, count] of follower.failures) failures[name] = (failures[name] ?? 0) + count;
    }
    process.stdout.write(`chaos: ${JSON.stringify({ written, watches, told, failures })}\n`);
    expect(Object.keys(failures)).not.toContain("INTERNAL");
    expect(watches).toBeGreaterThan(followers.length);
  },
  120_000 + rounds * 15_000,
);
