// Decides which server owns a data directory: one at a time, and none that has died.
//
// Two signs together. The socket `owner.sock` is open as long as its server lives, also while
// Postgres is being restarted; the kernel closes it with the process, so it never lies, but two
// servers that start at once may both find it closed. Between those an advisory lock in Postgres
// decides: whoever holds it owns the directory, and only the holder opens the socket.
import { rmSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";

const LOCK = "7020577301640913217";
/** A dead owner's backend needs a moment to see that its client has gone. */
const LOCK_PATIENCE_MS = 2_000;
const PROBE_PATIENCE_MS = 1_000;

function ownerSocket(socketDir: string): string {
  return join(socketDir, "owner.sock");
}

/**
 * Asks whether a living server owns the directory.
 *
 * @returns its process id (undefined where it did not say), or false
 */
export async function livingOwner(socketDir: string): Promise<{ pid: number | undefined } | false> {
  return await new Promise((resolve) => {
    const socket = connect(ownerSocket(socketDir));
    let connected = false;
    let answer = "";
    const finish = () => {
      socket.destroy();
      const pid = Number.parseInt(answer, 10);
      resolve(connected && { pid: Number.isNaN(pid) ? undefined : pid });
    };
    socket.setEncoding("utf8");
    socket.setTimeout(PROBE_PATIENCE_MS, finish);
    socket.on("connect", () => {
      connected = true;
    });
    socket.on("data", (text: string) => {
      answer += text;
    });
    socket.on("end", finish);
    socket.on("error", finish);
  });
}

/** Opens the sign of life. Only the holder of the lock may call this. */
export async function showOwner(socketDir: string): Promise<Server> {
  rmSync(ownerSocket(socketDir), { force: true });
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.end(`${process.pid}\n`);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(ownerSocket(socketDir), resolve);
  });
  return server.unref();
}

/**
 * Tries for a moment to get the lock of ownership on this connection, which then keeps it.
 *
 * @returns whether it did; undefined when the connection broke meanwhile
 */
export async function takeOwnership(client: pg.Client): Promise<boolean | undefined> {
  const deadline = Date.now() + LOCK_PATIENCE_MS;
  try {
    for (;;) {
      const { rows } = await client.query<{ taken: boolean }>(
        "SELECT pg_try_advisory_lock($1::bigint) AS taken",
        [LOCK],
      );
      if (rows[0]?.taken === true) return true;
      if (Date.now() > deadline) return false;
      await sleep(50);
    }
  } catch {
    // The statement itself cannot fail: Postgres has ended, or ended this session.
    await client.end().catch(() => {});
    return undefined;
  }
}
