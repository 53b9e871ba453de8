// ImportSessions: sessions from the lines of an export, each whole or not at all.
import { status } from "@grpc/grpc-js";
import type {
  ImportedSession,
  ImportSessionsRequest,
  ImportSessionsResponse,
} from "../../gen/agentstore/v1/transfer.js";
import { fieldError, RpcError } from "../errors/rpc-error.js";
import { readLines } from "../lines.js";
import type { CallContext } from "../rpc/call.js";
import { FieldChecks } from "../rpc/field-checks.js";
import type { ClientStreamRpc } from "../rpc/method.js";
import { checkSession, checkSnapshot, checkStateLine, checkVersion } from "./check-line.js";
import { SCHEMA_VERSION } from "./formats/jsonl.js";
import { readLine } from "./read-line.js";
import { findImport, SessionImport } from "./session-import.js";

export const importSessions: ClientStreamRpc<ImportSessionsRequest, ImportSessionsResponse> = {
  validate({ importId, chunk }, check, limits) {
    check.text("import_id", importId, limits.requestIdCharacters);
    if (chunk.length > limits.importChunkBytes) {
      check.fail("chunk", `must have at most ${limits.importChunkBytes} bytes`);
    }
  },

  async handle(requests, context) {
    const incoming = new Incoming(requests);
    await incoming.open();
    const work = new Import(incoming.importId, context);
    let number = 0;
    try {
      for await (const line of readLines(incoming.chunks(), context.limits.importLineBytes)) {
        ({ number } = line);
        if (line.tooLong) {
          const most = context.limits.importLineBytes;
          throw new RpcError("INVALID_IMPORT", `has more than ${most} bytes`);
        }
        await work.line(line.bytes);
        context.note({ sessions: work.sessions.length, messages: work.messages });
      }
      number++;
      work.complete();
    } catch (error) {
      throw atLine(error, number, work.sessions.length);
    } finally {
      await work.close();
    }
    return { sessions: work.sessions, messages: BigInt(work.messages) };
  },
};

// The requests of a stream as one stream of bytes.
class Incoming {
  importId = "";
  readonly #requests: AsyncIterator<ImportSessionsRequest>;
  #first: ImportSessionsRequest | undefined;

  constructor(requests: AsyncIterable<ImportSessionsRequest>) {
    this.#requests = requests[Symbol.asyncIterator]();
  }

  /** Reads the first request, which names the import. */
  async open(): Promise<void> {
    const first = await this.#requests.next();
    this.#first = first.done ? undefined : first.value;
    this.importId = this.#first?.importId ?? "";
    if (this.importId === "") {
      throw fieldError("INVALID_FIELD", "import_id", "is required in the first message");
    }
  }

  async *chunks(): AsyncGenerator<Buffer, void, undefined> {
    if (this.#first) yield this.#first.chunk;
    for (;;) {
      const next = await this.#requests.next();
      if (next.done) return;
      const { importId, chunk } = next.value;
      if (importId !== "" && importId !== this.importId) {
        const what = "must be empty or the one of the first message";
        throw fieldError("INVALID_FIELD", "import_id", what);
      }
      yield chunk;
    }
  }
}

// What an import has come to.
class Import {
  readonly sessions: ImportedSession[] = [];
  messages = 0;
  readonly #models = new Set<string>();
  #hasHeader = false;
  #current: SessionImport | undefined;

  constructor(
    readonly importId: string,
    readonly context: CallContext,
  ) {}

  async line(bytes: Buffer): Promise<void> {
    const { line, timed } = readLine(bytes);
    const { limits } = this.context;
    const check = new FieldChecks();
    const current = this.#current;
    if (line.$case === "header") {
      if (current) throw outOfPlace(current);
      const { schemaVersion } = line.value;
      if (schemaVersion !== SCHEMA_VERSION) {
        const what = `must be ${SCHEMA_VERSION}, which is what this server reads`;
        throw fieldError("INVALID_FIELD", "header.schema_version", what);
      }
      this.#hasHeader = true;
      return;
    }
    if (!this.#hasHeader) throw new RpcError("INVALID_IMPORT", "an export begins with its header");
    if (line.$case === "session") {
      if (current) throw outOfPlace(current);
      if (this.sessions.length >= limits.importSessions) {
        throw new RpcError(
          "INVALID_IMPORT",
          `an import has at most ${limits.importSessions} sessions`,
        );
      }
      checkSession(line.value, check, limits);
      check.throwIfAny();
      const { id, parent } = line.value;
      const before = await findImport(this.context, this.importId, id);
      const known =
        parent && (await findImport(this.context, this.importId, parent.conversationId));
      const { importId, context } = this;
      this.#current = new SessionImport(
        line.value,
        importId,
        before,
        known?.conversation_id,
        this.#models,
        context,
      );
      this.#current.digest(bytes);
      return;
    }
    if (!current) throw new RpcError("INVALID_IMPORT", "belongs to no session");
    current.digest(bytes);
    const { session } = current;
    switch (line.$case) {
      case "message":
      case "version":
        checkVersion(line.$case, line.value, session, timed, check, limits);
        check.throwIfAny();
        await current.message(line.$case, line.value, timed, bytes.length);
        return;
      case "state":
        checkStateLine(line.value, session, check, limits);
        check.throwIfAny();
        current.state(line.value);
        return;
      case "snapshot":
        checkSnapshot(line.value, session, check, limits);
        check.throwIfAny();
        await current.snapshot(line.value, bytes.length);
        return;
      case "end": {
        const { conversationId, messages, replayed } = await current.end(line.value);
        this.sessions.push({ sourceConversationId: session.id, conversationId, replayed });
        this.messages += messages;
        await this.close();
      }
    }
  }

  /** All lines have come. */
  complete(): void {
    if (!this.#current) return;
    throw new RpcError(
      "INVALID_IMPORT",
      `the import ends in the middle of session ${this.#current.session.id}`,
    );
  }

  async close(): Promise<void> {
    await this.#current?.close();
    this.#current = undefined;
  }
}

function outOfPlace({ session }: SessionImport): RpcError {
  return new RpcError("INVALID_IMPORT", `session ${session.id} has no end line before this one`);
}

// Names the line in what is wrong with it; what is wrong with the call stays as it is.
function atLine(error: unknown, number: number, sessions: number): unknown {
  if (!(error instanceof RpcError) || error.code !== status.INVALID_ARGUMENT) return error;
  const { metadata = {}, violations = [] } = error.details;
  if (metadata.field === "import_id" || metadata.field === "chunk") return error;
  const ofLine = ["INVALID_FIELD", "INVALID_UTF8", "MALFORMED_REQUEST"].includes(error.reason);
  const place = `lines[${number}]`;
  const named = violations.map(({ field, description }) => ({
    field: `${place}.${field}`,
    description,
  }));
  return new RpcError(
    ofLine ? "INVALID_IMPORT" : error.reason,
    `line ${number}: ${error.message}`,
    {
      ...error.details,
      metadata: {
        ...metadata,
        field: named[0]?.field ?? place,
        line: String(number),
        sessions: String(sessions),
      },
      violations: named.length > 0 ? named : [{ field: place, description: error.message }],
    },
  );
}
