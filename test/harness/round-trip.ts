// Takes all of a store out and into an empty one, and holds the two against each other.
import { expect } from "vitest";
import { ExportFormat } from "../../gen/agentstore/v1/transfer.js";
import { assertChangesTile } from "./changes.js";
import { assertCountersAgree } from "./counters.js";
import { startServer } from "./server.js";
import { Stubs } from "./stubs.js";
import { exportAll, importAll } from "./transfer-stubs.js";

/**
 * Asserts that an export of everything, imported into an empty store, makes equal sessions there:
 * their own export is the same but for the ids.
 *
 * @returns how many sessions were compared
 */
export async function assertRoundTrip(stubs: Stubs): Promise<number> {
  const all = { format: ExportFormat.JSONL };
  const before = await exportAll(stubs.channel, all);
  const server = await startServer();
  const other = new Stubs(server.address);
  try {
    const { sessions } = await importAll(other.channel, "round-trip", before);
    const after = await exportAll(other.channel, all);
    const exported = [withoutIds(before), withoutIds(after)] as const;
    expect(exported[1]).toEqual(exported[0]);
    expect(await assertCountersAgree(server.databaseUrl)).toBe(sessions.length);
    await assertChangesTile(server.databaseUrl);
    return sessions.length;
  } finally {
    other.close();
    await server.stop();
  }
}

// The lines but the header; a session is known by its place, a message and a snapshot by none.
function withoutIds(bytes: Buffer): unknown[] {
  const lines = bytes.toString().split("\n").filter(Boolean);
  const parsed = lines.map((line) => JSON.parse(line) as { session?: { id: string } });
  const places = new Map<unknown, number>();
  for (const { session } of parsed) if (session) places.set(session.id, places.size);
  return parsed.slice(1).map((line) => {
    const text = JSON.stringify(line, (key, value: unknown) => {
      if (key === "metadata" || key === "payload") return value;
      if (key === "conversationId") return places.get(value) ?? "elsewhere";
      return key === "id" && typeof value === "string" && /^\d+$/.test(value) ? undefined : value;
    });
    const plain = JSON.parse(text) as { session?: { parent?: { conversationId: unknown } } };
    // A parent that is not there any more is not imported.
    if (plain.session?.parent?.conversationId === "elsewhere") delete plain.session.parent;
    return plain;
  });
}
