// The statements that write a group of appends, with their parameters.
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import { changesStep, type SessionChange } from "../changes/record.js";
import {
  byteaColumn,
  int8Column,
  int8Parameter,
  jsonbColumn,
  jsonColumn,
  textColumn,
  timeParameter,
} from "../db/array-parameter.js";
import { BinaryRow } from "../db/binary-row.js";
import type { Step } from "../db/database.js";
import { keepAnswerInShard, keepAnswers } from "../idempotency/requests.js";
import { present } from "../present.js";
import { type Advance, type Plan, USAGE } from "./append-plan.js";
import { roleName, toStoredTexts } from "./message.js";
import type { LockedSessionRow } from "./sql.js";
import * as sql from "./sql.js";

/** Locks sessions, and fails unless all of them could be locked and stand as is said here. */
export function checkHeads(heads: LockedSessionRow[]): Step {
  const values = [
    int8Column(heads, (head) => head.id),
    textColumn(heads, (head) => head.tenant_id),
    int8Column(heads, (head) => head.last_seq),
    int8Column(heads, (head) => head.revision),
    int8Column(heads, (head) => head.fencing_token),
  ];
  return { statement: sql.checkHeads, values, onRow: () => {} };
}

/** Writes what was planned, and gives the plan's messages their ids. */
export function writePlan(plan: Plan, nowMs: number): Step[] {
  const { advances, heads, messages, writers, answers } = plan;
  const now = timeParameter(nowMs);
  const steps: Step[] = [
    {
      statement: sql.advanceSessions,
      values: [...advanceColumns(advances), now],
      onRow: () => {},
    },
    {
      statement: sql.insertMessages,
      values: [...messageColumns(messages), textColumn(writers, (writer) => writer), now],
      onRow: idsOf(messages),
    },
    changesStep(advances.map(changeOf(heads)), nowMs),
  ];
  if (answers.length > 0) steps.push(keepAnswers(answers, nowMs));
  return steps;
}

/** As writePlan, on Citus: by statements that name one session each, and so one shard. */
export function writePlanToShards(plan: Plan, nowMs: number): Step[] {
  const { advances, heads, messages, writers, answers } = plan;
  const now = timeParameter(nowMs);
  return [
    ...advances.map((advance) => ({
      statement: sql.advanceSession,
      values: [...advanceColumns([advance]), now, int8Parameter(advance.conversationId)],
      onRow: () => {},
    })),
    ...messages.map((message, index) => ({
      statement: sql.insertMessage,
      values: [
        int8Parameter(message.conversationId),
        ...messageColumns([message]).slice(1),
        textColumn([writers[index]], (writer) => writer),
        now,
      ],
      onRow: idsOf([message]),
    })),
    changesStep(advances.map(changeOf(heads)), nowMs),
    ...answers.map((answer) => keepAnswerInShard(answer, nowMs)),
  ];
}

// The heads are those of the advances, in their order.
function changeOf(heads: LockedSessionRow[]) {
  return ({ conversationId, messages }: Advance, index: number): SessionChange => {
    const { tenant_id, revision, last_seq } = present(heads[index]);
    const before = BigInt(messages) - 1n;
    return {
      conversationId,
      tenant: tenant_id,
      firstRevision: revision - before,
      lastRevision: revision,
      firstSeq: last_seq - before,
      lastSeq: last_seq,
    };
  };
}

function idsOf(messages: AgentMessage[]): Step["onRow"] {
  let next = 0;
  return (bytes, start) => {
    const row = new BinaryRow(bytes, start);
    const id = row.int8();
    const conversationId = row.int8();
    const seq = row.int8();
    // They come in the order of the messages, but SQL does not promise it.
    const isIt = (message: AgentMessage | undefined) =>
      message?.seq === seq && message.conversationId === conversationId;
    const message = isIt(messages[next]) ? messages[next] : messages.find(isIt);
    present(message).id = id;
    next++;
  };
}

// In the order of sql.advanceSessions.
function advanceColumns(advances: Advance[]): (Buffer | null)[] {
  return [
    int8Column(advances, (advance) => advance.conversationId),
    int8Column(advances, (advance) => advance.messages),
    int8Column(advances, ({ roles }) => roles.user || null),
    int8Column(advances, ({ roles }) => roles.assistant || null),
    int8Column(advances, ({ roles }) => roles.system || null),
    int8Column(advances, ({ roles }) => roles.tool || null),
    int8Column(advances, (advance) => advance.characters),
    ...USAGE.map((key) => int8Column(advances, ({ usage }) => usage[key] || null)),
    int8Column(advances, (advance) => advance.firstMs),
    int8Column(advances, (advance) => advance.lastMs),
    textColumn(advances, (advance) => advance.firstMessage),
  ];
}

// In the order of sql.insertMessages, up to who writes them.
function messageColumns(messages: AgentMessage[]): (Buffer | null)[] {
  const texts = messages.map(toStoredTexts);
  return [
    int8Column(messages, (message) => message.conversationId),
    int8Column(messages, (message) => message.seq),
    int8Column(messages, (message) => message.revision),
    textColumn(messages, (message) => roleName(message.role)),
    textColumn(texts, (text) => text.content),
    int8Column(messages, (message) => message.timestampMs),
    textColumn(texts, (text) => text.name),
    // json, not jsonb: it takes \u0000 and leaves every text as it was.
    jsonColumn(messages, ({ toolCalls }) =>
      toolCalls.length > 0 ? JSON.stringify(toolCalls) : null,
    ),
    textColumn(texts, (text) => text.toolCallId),
    textColumn(texts, (text) => text.payload),
    textColumn(texts, (text) => text.payloadType),
    jsonbColumn(messages, ({ metadata }) => metadata && JSON.stringify(metadata)),
    ...USAGE.map((key) => int8Column(messages, ({ usage }) => usage?.[key])),
    byteaColumn(texts, (text) => text.exact),
  ];
}
