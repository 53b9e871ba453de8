// Watches for tests: follows a session or many, and holds what was told against what is stored.
import { type Client, type ClientReadableStream, Metadata } from "@grpc/grpc-js";
import { expect } from "vitest";
import { errorFromStatus, isEndStatus } from "../../client/status.js";
import { AgentStoreService } from "../../gen/agentstore/v1/agent_store.js";
import {
  type SessionEvent,
  WatchSessionRequest,
  type WatchSessionResponse,
  WatchSessionsRequest,
  type WatchSessionsResponse,
} from "../../gen/agentstore/v1/watch.js";
import { withClient } from "./postgres.js";

/** An event by its kind. */
export type Kind = NonNullable<SessionEvent["event"]>["$case"];

/** What an event comes to, for comparison. */
export interface Told {
  id: bigint;
  revision: bigint;
  kind: Kind;
  seq?: bigint;
  version?: bigint;
  content?: string;
}

abstract class Watcher<Response extends { events: SessionEvent[] }> {
  readonly events: SessionEvent[] = [];
  responses = 0;
  failure: unknown;
  ended = false;
  #waiting: (() => void)[] = [];

  protected constructor(readonly stream: ClientReadableStream<Response>) {
    stream.on("data", (response: Response) => {
      this.responses++;
      this.events.push(...response.events);
      this.take(response);
      this.#wake();
    });
    stream.on("error", (error) => {
      this.failure = isEndStatus(error) ? errorFromStatus(error, {}) : error;
      this.#wake();
    });
    stream.on("end", () => {
      this.ended = true;
      this.#wake();
    });
  }

  protected take(_response: Response): void {}

  /** Waits until what was told is as asked for. @throws what the watch failed with, and after 30 s */
  async until(what: string, isThere: (told: Told[]) => boolean): Promise<void> {
    const deadline = Date.now() + 30_000;
    while (!isThere(this.told)) {
      if (this.failure) throw this.failure as Error;
      if (this.ended) throw new Error(`the watch ended before ${what}`);
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`waited in vain for ${what}`)),
          deadline - Date.now(),
        );
        this.#waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** Waits for a kind of event. */
  untilKind(kind: Kind, times = 1): Promise<void> {
    return this.until(kind, () => this.kinds.filter((one) => one === kind).length >= times);
  }

  /** Waits until the watch has ended; returns what it failed with. */
  async end(): Promise<unknown> {
    while (!this.failure && !this.ended) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    return this.failure;
  }

  get kinds(): Kind[] {
    return this.events.flatMap(({ event }) => (event ? [event.$case] : []));
  }

  /** All but what concerns the watch itself. */
  get told(): Told[] {
    return this.events.flatMap(toldOf);
  }

  /** The versions of messages that were told. */
  get versions(): Told[] {
    return this.told.filter(({ kind }) => kind.startsWith("message"));
  }

  cancel(): void {
    this.stream.cancel();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** A watch of one session. */
export class SessionWatcher extends Watcher<WatchSessionResponse> {
  constructor(
    channel: Client,
    conversationId: bigint,
    afterRevision?: bigint,
    metadata = new Metadata(),
  ) {
    const { path, requestSerialize, responseDeserialize } = AgentStoreService.watchSession;
    super(
      channel.makeServerStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        WatchSessionRequest.fromPartial({ conversationId, afterRevision }),
        metadata,
      ),
    );
  }

  /** Where it goes on. */
  get revision(): bigint {
    return this.events.at(-1)?.revision ?? 0n;
  }
}

/** A watch of many sessions. */
export class SessionsWatcher extends Watcher<WatchSessionsResponse> {
  /** The positions, each with how many events had come with it. */
  readonly positions: { position: string; events: number }[] = [];

  constructor(
    channel: Client,
    request: Partial<WatchSessionsRequest> = {},
    metadata = new Metadata(),
  ) {
    const { path, requestSerialize, responseDeserialize } = AgentStoreService.watchSessions;
    super(
      channel.makeServerStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        WatchSessionsRequest.fromPartial(request),
        metadata,
      ),
    );
  }

  protected override take({ position }: WatchSessionsResponse): void {
    this.positions.push({ position, events: this.events.length });
  }

  get position(): string {
    return this.positions.at(-1)?.position ?? "";
  }
}

/** What an event tells of a session; nothing for those that concern the watch. */
export function toldOf({ conversationId: id, revision, event }: SessionEvent): Told[] {
  switch (event?.$case) {
    case "messageAppended":
    case "messageUpdated":
    case "messageDeleted": {
      const { seq, version, content } = event.value;
      return [{ id, revision, kind: event.$case, seq, version, content }];
    }
    case "sessionChanged":
    case "sessionDeleted":
      return [{ id, revision, kind: event.$case }];
    default:
      return [];
  }
}

const HISTORY = `
  SELECT conversation_id, revision, seq, version, content, deleted_at IS NOT NULL AS deleted
    FROM (SELECT conversation_id, revision, seq, version, content, deleted_at
            FROM conversation_messages
           UNION ALL
          SELECT conversation_id, revision, seq, version, content, deleted_at
            FROM message_versions) AS told
   WHERE conversation_id = $1 AND revision > $2
   ORDER BY revision`;

/** What a watch of a session must have told of its messages behind a revision. */
export async function storedVersions(url: string, id: bigint, after = 0n): Promise<Told[]> {
  const { rows } = await withClient(url, (client) => client.query(HISTORY, [id, after]));
  return rows.map((row: Record<string, string> & { deleted: boolean }) => ({
    id,
    revision: BigInt(row.revision!),
    kind: row.deleted
      ? "messageDeleted"
      : row.version === "1"
        ? "messageAppended"
        : "messageUpdated",
    seq: BigInt(row.seq!),
    version: BigInt(row.version!),
    content: row.content!,
  }));
}

/**
 * Asserts that a watch of a session has told each version behind a revision once and in order, and of
 * every other change of it.
 */
export async function assertTold(url: string, id: bigint, told: Told[], after = 0n): Promise<void> {
  const versions = await storedVersions(url, id, after);
  const ofSession = told.filter((one) => one.id === id);
  expect(ofSession.filter(({ kind }) => kind.startsWith("message"))).toEqual(versions);
  const { rows } = await withClient(url, (client) =>
    client.query<{ revision: string }>("SELECT revision FROM conversations WHERE id = $1", [id]),
  );
  const last = BigInt(rows[0]?.revision ?? 0);
  const ofMessages = new Set(versions.map(({ revision }) => revision));
  for (const [index, one] of ofSession.entries()) {
    expect(one.revision, "revisions never fall").toBeGreaterThanOrEqual(
      ofSession[index - 1]?.revision ?? after + 1n,
    );
  }
  // A change of the session is told before anything that came after it, if not again in this run of
  // events, then by the session as it was later.
  let toldOfSession = false;
  for (let revision = after + 1n; revision <= last; revision++) {
    if (ofMessages.has(revision)) continue;
    toldOfSession ||= ofSession.some((one) => one.kind === "sessionChanged");
    expect(toldOfSession, `revision ${revision} of the session is told`).toBe(true);
  }
}
