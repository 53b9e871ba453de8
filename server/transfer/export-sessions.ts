// ExportSessions: sessions as a file, in pieces, from one snapshot.
import {
  ExportFormat,
  type ExportSessionsRequest,
  type ExportSessionsResponse,
} from "../../gen/agentstore/v1/transfer.js";
import type { LongTransaction } from "../db/database.js";
import { sessionNotFound, tooLong } from "../errors/rpc-error.js";
import type { CallContext } from "../rpc/call.js";
import type { StreamRpc } from "../rpc/method.js";
import { decodePageToken, encodePageToken } from "../rpc/page-token.js";
import { checkSessionFilter, isFilter, sessionIds } from "../sessions/filter.js";
import { exportSession } from "./export-session.js";
import { csv } from "./formats/csv.js";
import type { Format } from "./formats/format.js";
import { json } from "./formats/json.js";
import { jsonl } from "./formats/jsonl.js";
import { openAi } from "./formats/openai.js";
import * as sql from "./sql.js";

const FORMATS: Partial<Record<ExportFormat, Format>> = {
  [ExportFormat.JSONL]: jsonl,
  [ExportFormat.JSON]: json,
  [ExportFormat.CSV]: csv,
  [ExportFormat.OPENAI]: openAi,
};

export const exportSessions: StreamRpc<ExportSessionsRequest, ExportSessionsResponse> = {
  validate(request, check, limits) {
    const { conversationIds, modelId, filter, format } = request;
    check.enumValue("format", format, ExportFormat, { zero: false });
    if (conversationIds.length > limits.exportIds) {
      check.fail("conversation_ids", `must be at most ${limits.exportIds}`);
    } else {
      conversationIds.forEach((id, index) => {
        check.positive(`conversation_ids[${index}]`, id);
      });
    }
    check.text("model_id", modelId, limits.idCharacters);
    if (filter) checkSessionFilter(filter, check, limits);
    if (conversationIds.length === 0) return;
    if (modelId !== "") check.fail("model_id", "does not go with conversation_ids");
    if (isFilter(filter)) check.fail("filter", "does not go with conversation_ids");
  },

  async *handle(request, context) {
    const { limits, signal, db } = context;
    const query = queryOf(request);
    const [lastId, ended] = decodePageToken(request.resumeToken, query, "resume_token") ?? [0n, 0n];
    context.note({ sessions: 0, messages: 0 });
    if (ended === 1n) return;
    const snapshot = await db.openLong("snapshot", signal);
    const until = performance.now() + limits.exportMs;
    try {
      for await (const piece of pieces(request, lastId, snapshot, context)) {
        const { id, end, sessions } = piece;
        const resumeToken = id === undefined ? "" : encodePageToken(query, [id, end ? 1n : 0n]);
        // A reader that stands still must not hold the snapshot, which keeps Postgres from tidying up.
        let stalled = false;
        const stall = setTimeout(() => {
          stalled = true;
          void snapshot.close();
        }, limits.callMs);
        yield { chunk: piece.chunk, resumeToken, sessions: BigInt(sessions) };
        clearTimeout(stall);
        if (stalled || performance.now() > until) throw tooLong();
      }
    } finally {
      await snapshot.close();
    }
  },
};

function queryOf({ format, conversationIds, modelId, filter }: ExportSessionsRequest): unknown[] {
  const text = JSON.stringify(filter ?? null);
  return ["ExportSessions", format, conversationIds.join(), modelId, text];
}

interface Piece {
  chunk: Buffer;
  /** The session that ends with it, if one does. */
  id?: bigint;
  /** Is it the last one? */
  end: boolean;
  /** How many sessions are complete with it. */
  sessions: number;
}

async function* pieces(
  request: ExportSessionsRequest,
  lastId: bigint,
  snapshot: LongTransaction,
  context: CallContext,
): AsyncGenerator<Piece, void, undefined> {
  const { limits } = context;
  const format = FORMATS[request.format] ?? jsonl;
  let text = lastId === 0n ? format.begin(new Date()) : "";
  let sessions = 0;
  let messages = 0;
  let id = lastId;
  const take = () => {
    const chunk = Buffer.from(text);
    text = "";
    return chunk;
  };
  for await (const next of ids(request, lastId, snapshot, context)) {
    const counts = { messages: 0, versions: 0, snapshots: 0 };
    const first = id === 0n;
    for await (const part of exportSession(next, format, first, snapshot, context, counts)) {
      text += part;
      if (text.length >= limits.exportChunkCharacters) {
        yield { chunk: take(), end: false, sessions };
      }
    }
    id = next;
    sessions++;
    messages += counts.messages;
    context.note({ sessions, messages });
    if (text.length >= limits.exportChunkCharacters / 4) {
      yield { chunk: take(), id, end: false, sessions };
    }
  }
  text += format.end();
  yield { chunk: take(), id, end: true, sessions };
}

// The ids of the sessions to export, rising.
async function* ids(
  request: ExportSessionsRequest,
  lastId: bigint,
  snapshot: LongTransaction,
  { principal: { tenant }, limits }: CallContext,
): AsyncGenerator<bigint, void, undefined> {
  if (request.conversationIds.length > 0) {
    const given = [...new Set(request.conversationIds)].filter((id) => id > lastId);
    const rows = await snapshot.query(sql.findSessions, [tenant, given]);
    const found = new Set(rows.map(({ id }) => id));
    const missing = given.find((id) => !found.has(id));
    if (missing !== undefined) throw sessionNotFound(missing);
    yield* given.toSorted((a, b) => (a < b ? -1 : 1));
    return;
  }
  const { modelId, filter } = request;
  const count = limits.pageSizeMost;
  const now = new Date();
  for (let afterId = lastId; ; ) {
    const { statement, values } = sessionIds({ tenant, modelId, filter, afterId, count, now });
    const rows = await snapshot.query(statement, values);
    for (const row of rows) yield row.id;
    const last = rows.at(-1);
    if (!last || rows.length < count) return;
    afterId = last.id;
  }
}
