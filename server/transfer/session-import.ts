// One session of an import: collects its lines and writes them, all in one transaction.
import { createHash } from "node:crypto";
import type { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import type { SessionSnapshot } from "../../gen/agentstore/v1/snapshots.js";
import type { AgentState } from "../../gen/agentstore/v1/state.js";
import type { ExportEnd } from "../../gen/agentstore/v1/transfer.js";
import type { MessageVersion } from "../../gen/agentstore/v1/versions.js";
import { recordAudit } from "../audit/record.js";
import { recordChange } from "../changes/record.js";
import type { LongTransaction, Queries } from "../db/database.js";
import { fieldError, RpcError } from "../errors/rpc-error.js";
import { CHANGES } from "../messages/list-message-versions.js";
import { contentValues } from "../messages/versions/content-values.js";
import { present } from "../present.js";
import type { CallContext } from "../rpc/call.js";
import { recordAncestry } from "../sessions/ancestry.js";
import { modelNotRegistered } from "../sessions/create-session.js";
import { syncLabels } from "../sessions/labels.js";
import { distinctTags } from "../sessions/session.js";
import { registerModel } from "../sessions/sql.js";
import { putStates } from "../state/state.js";
import * as sql from "./sql.js";

/** What came of a session. */
export interface Imported {
  conversationId: bigint;
  messages: number;
  replayed: boolean;
}

// Thrown to roll a transaction back: the same session has just been imported.
class ImportedMeanwhile extends Error {}

const CHANGE_NAMES = new Map(Object.entries(CHANGES).map(([name, change]) => [change, name]));

/** A session whose lines are coming in. Its lines have been checked one by one. */
export class SessionImport {
  readonly #digest = createHash("sha256");
  readonly #messages: unknown[][] = [];
  readonly #versions: unknown[][] = [];
  readonly #snapshots: SessionSnapshot[] = [];
  /** The current versions of the messages that have earlier ones. */
  readonly #current = new Map<bigint, bigint>();
  #state: AgentState | undefined;
  #bytes = 0;
  #lastSeq = 0n;
  #lastVersion: [seq: bigint, version: bigint] = [0n, 0n];
  #lastRevision = 0n;
  #kind = 0;
  #counts = { messages: 0, versions: 0, snapshots: 0 };
  /** Open once there is more of the session than is held in memory. */
  #transaction: LongTransaction | undefined;
  #conversationId = 0n;

  /**
   * @param before what was imported before; then nothing is written
   * @param parent the imported session that it was forked from
   * @param models those that are registered for certain; grows
   */
  constructor(
    readonly session: AgentSession,
    readonly importId: string,
    readonly before: sql.ImportRow | undefined,
    readonly parent: bigint | undefined,
    readonly models: Set<string>,
    readonly context: CallContext,
  ) {}

  /** Takes a line's bytes into the session's digest. */
  digest(bytes: Buffer): void {
    this.#digest.update(bytes).update("\n");
  }

  /** Takes a message, or an earlier version of one. */
  async message(
    kind: "message" | "version",
    version: MessageVersion,
    timed: boolean,
    bytes: number,
  ): Promise<void> {
    const message = present(version.message);
    if (kind === "message") {
      this.#inOrder(1);
      if (message.seq !== ++this.#lastSeq) {
        throw fieldError("INVALID_FIELD", "message.message.seq", `must be ${this.#lastSeq}`);
      }
      if (message.version > 1n) this.#current.set(message.seq, message.version);
      this.#counts.messages++;
    } else {
      this.#inOrder(2);
      const current = this.#current.get(message.seq) ?? 0n;
      if (message.version >= current) {
        const what = "must be lower than that of the message itself";
        throw fieldError("INVALID_FIELD", "version.message.version", what);
      }
      const [seq, before] = this.#lastVersion;
      if (message.seq < seq || (message.seq === seq && message.version <= before)) {
        const what = "must be higher than that of the line before";
        throw fieldError("INVALID_FIELD", "version.message.version", what);
      }
      this.#lastVersion = [message.seq, message.version];
      this.#counts.versions++;
    }
    if (this.before) return;
    (kind === "message" ? this.#messages : this.#versions).push(rowOf(version, timed));
    await this.#weigh(bytes);
  }

  /** Takes the state. */
  state(state: AgentState): void {
    this.#inOrder(3);
    if (this.#state) throw new RpcError("INVALID_IMPORT", "is the session's second state");
    this.#state = state;
  }

  /** Takes a snapshot. */
  async snapshot(snapshot: SessionSnapshot, bytes: number): Promise<void> {
    this.#inOrder(4);
    if (snapshot.revision < this.#lastRevision) {
      const what = "must not be lower than that of the line before";
      throw fieldError("INVALID_FIELD", "snapshot.revision", what);
    }
    this.#lastRevision = snapshot.revision;
    this.#counts.snapshots++;
    if (this.before) return;
    this.#snapshots.push(snapshot);
    await this.#weigh(bytes);
  }

  /**
   * Completes the session.
   *
   * @throws REQUEST_ID_REUSED when it differs from what was imported before
   */
  async end(end: ExportEnd): Promise<Imported> {
    this.#checkEnd(end);
    const digest = this.#digest.digest();
    if (this.before) return replayed(this.before, digest);
    try {
      if (this.#transaction) {
        await this.#finish(this.#transaction, digest);
        await this.#transaction.commit();
      } else {
        await this.#register();
        await this.context.db.transaction(async (queries) => {
          await this.#begin(queries);
          await this.#finish(queries, digest);
        }, this.context.signal);
      }
    } catch (error) {
      if (!(error instanceof ImportedMeanwhile)) throw error;
      await this.close();
      return replayed(
        present(await findImport(this.context, this.importId, this.session.id)),
        digest,
      );
    }
    const { messages } = this.#counts;
    return { conversationId: this.#conversationId, messages, replayed: false };
  }

  /** Lets go of the transaction; what is not committed is rolled back. */
  async close(): Promise<void> {
    await this.#transaction?.close();
  }

  #inOrder(kind: number): void {
    if (kind < this.#kind) {
      throw new RpcError("INVALID_IMPORT", "comes too late: see ExportLine for the order of lines");
    }
    this.#kind = kind;
  }

  #checkEnd({ conversationId, messages, versions, snapshots }: ExportEnd): void {
    const { session } = this;
    const claims: [string, bigint, bigint][] = [
      ["end.conversation_id", conversationId, session.id],
      ["end.messages", messages, BigInt(this.#counts.messages)],
      ["end.messages", session.lastSeq, BigInt(this.#counts.messages)],
      ["end.versions", versions, BigInt(this.#counts.versions)],
      ["end.snapshots", snapshots, BigInt(this.#counts.snapshots)],
    ];
    for (const [field, claimed, found] of claims) {
      if (claimed === found) continue;
      const what = `does not agree with the session's lines, which give ${found}: some are missing or too many`;
      throw fieldError("INVALID_FIELD", field, what);
    }
  }

  // Writes what has come so far when that is much.
  async #weigh(bytes: number): Promise<void> {
    const { limits, db, signal } = this.context;
    this.#bytes += bytes;
    const rows = this.#messages.length + this.#versions.length;
    if (rows < limits.batchMessages && this.#bytes < limits.importBatchBytes) return;
    if (!this.#transaction) {
      // Before, by itself: it would keep others from registering the same model.
      await this.#register();
      this.#transaction = await db.openLong("write", signal);
      await this.#begin(this.#transaction);
    }
    await this.#flush(this.#transaction);
  }

  async #register(): Promise<void> {
    const { db, signal } = this.context;
    const { modelId } = this.session;
    if (this.models.has(modelId)) return;
    await db.transaction(async (queries) => {
      try {
        await queries.query(registerModel, [modelId]);
      } catch (error) {
        throw await modelNotRegistered(error, modelId, this.context);
      }
    }, signal);
    this.models.add(modelId);
  }

  async #begin(queries: Queries): Promise<void> {
    const { session, parent } = this;
    const [row] = await queries.query(sql.importSession, [
      this.context.principal.tenant,
      session.modelId,
      session.title,
      session.ownerId,
      distinctTags(session.tags),
      session.metadata,
      session.createdAt,
      session.updatedAt,
      session.expiresAt,
      session.lastSeq,
      session.revision,
      parent,
      parent === undefined ? undefined : session.parent?.seq,
      session.snapshotPolicy?.everyMessages,
      session.snapshotPolicy?.everyMinutes,
    ]);
    this.#conversationId = present(row).id;
  }

  async #flush(queries: Queries): Promise<void> {
    const id = this.#conversationId;
    const messages = this.#messages.splice(0);
    const versions = this.#versions.splice(0);
    await Promise.all([
      ...(messages.length > 0
        ? [queries.query(sql.importMessages, [id, ...toColumns(messages)])]
        : []),
      ...(versions.length > 0
        ? [queries.query(sql.importVersions, [id, ...toColumns(versions)])]
        : []),
      ...this.#snapshots
        .splice(0)
        .map((snapshot) =>
          queries.query(sql.importSnapshot, [
            id,
            snapshot.name,
            snapshot.byPolicy,
            snapshot.revision,
            snapshot.lastSeq,
            snapshot.messageCount,
            snapshot.state,
            snapshot.createdBy,
            snapshot.createdAt,
          ]),
        ),
    ]);
    this.#bytes = 0;
  }

  async #finish(queries: Queries, digest: Buffer): Promise<void> {
    const { session, context, importId, parent } = this;
    const { tenant } = context.principal;
    const id = this.#conversationId;
    const now = new Date();
    const [inserted] = await queries.query(sql.insertImport, [
      tenant,
      importId,
      session.id,
      id,
      digest,
      now,
    ]);
    if (!inserted) throw new ImportedMeanwhile();
    const state = this.#state;
    await this.#flush(queries);
    await Promise.all([
      queries.query(sql.countImported, [id]),
      syncLabels(queries, id),
      ...(state
        ? [
            putStates(
              queries,
              [{ conversationId: id, state: state.state, revision: state.revision }],
              state.updatedAt ?? now,
            ),
          ]
        : []),
      ...(parent === undefined
        ? []
        : [recordAncestry(queries, { parent, fork: id, seq: session.parent?.seq ?? 0n })]),
      recordChange(
        queries,
        {
          conversationId: id,
          tenant,
          firstRevision: 1n,
          lastRevision: session.revision,
          firstSeq: 1n,
          lastSeq: session.lastSeq,
        },
        now,
      ),
      recordAudit(queries, context, {
        rpc: "ImportSessions",
        conversationId: id,
        requestId: importId,
      }),
    ]);
  }
}

/** Finds what an import has made of a session before. */
export async function findImport(
  { db, principal, signal }: CallContext,
  importId: string,
  sourceId: bigint,
): Promise<sql.ImportRow | undefined> {
  const [row] = await db.query(sql.findImport, [principal.tenant, importId, sourceId], signal);
  return row;
}

function replayed(before: sql.ImportRow, digest: Buffer): Imported {
  if (!before.digest.equals(digest)) {
    throw fieldError(
      "REQUEST_ID_REUSED",
      "import_id",
      "was used before for another export of this session; take a new one for each new import",
    );
  }
  return { conversationId: before.conversation_id, messages: 0, replayed: true };
}

// In the order of sql.IMPORTED.
function rowOf(
  { message, change, changedBy, changedAt }: MessageVersion,
  timed: boolean,
): unknown[] {
  const given = present(message);
  return [
    given.seq,
    given.revision,
    ...contentValues(given, timed ? given.timestampMs : null),
    given.version,
    CHANGE_NAMES.get(change),
    given.editedAt,
    given.deletedAt,
    changedBy,
    changedAt,
  ];
}

function toColumns(rows: unknown[][]): unknown[][] {
  return present(rows[0]).map((_, column) => rows.map((row) => row[column]));
}
