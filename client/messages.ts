// The calls about messages: what they take, what they return, and how both look on the wire.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import type * as wire from "../gen/agentstore/v1/messages.js";
import {
  MessageOrder,
  Role as WireRole,
  MessageView as WireView,
} from "../gen/agentstore/v1/messages.js";
import { answered, paginate, write } from "./calls.js";
import type { Connection } from "./connection.js";
import { InvalidFieldError } from "./errors.js";
import { int32OrZero, int64, int64OrZero, jsonObject, list, text, textOrEmpty } from "./fields.js";
import type {
  AddMessageOptions,
  AddMessagesOptions,
  GetMessageOptions,
  GetMessagesOptions,
  MessagePage,
  MessageRange,
  MessageView,
} from "./options.js";
import { stateToWire } from "./state.js";
import type { AgentMessage, Embedding, MessageKeys, NewMessage, NewUsage, Role } from "./types.js";

const ROLE_NAMES: readonly AgentMessage["role"][] = [
  "unknown",
  "system",
  "user",
  "assistant",
  "tool",
];
const WIRE_ROLES = new Map<string, WireRole>([
  ["system", WireRole.SYSTEM],
  ["user", WireRole.USER],
  ["assistant", WireRole.ASSISTANT],
  ["tool", WireRole.TOOL],
]);
const WIRE_VIEWS = new Map<string | undefined, WireView>([
  [undefined, WireView.UNSPECIFIED],
  ["full", WireView.FULL],
  ["keys", WireView.KEYS],
]);
const WIRE_ORDERS = new Map<string | undefined, MessageOrder>([
  [undefined, MessageOrder.OLDEST_FIRST],
  ["oldest_first", MessageOrder.OLDEST_FIRST],
  ["newest_first", MessageOrder.NEWEST_FIRST],
]);

export async function addMessage(
  connection: Connection,
  id: bigint | number,
  role: Role,
  content: string,
  options: AddMessageOptions & { view?: MessageView | undefined },
): Promise<AgentMessage | MessageKeys> {
  const view = viewToWire(options.view);
  const response = await write(
    connection,
    AgentStoreService.addMessage,
    {
      conversationId: int64(id, "conversation_id"),
      message: toWire({ ...options, role, content: text(content, "message.content") }, "message"),
      expectedLastSeq: expected(options),
      view,
      fencingToken: int64OrZero(options.fencingToken, "fencing_token"),
      state: stateToWire(options.state),
    },
    options,
  );
  const message = answered(response.message);
  return view === WireView.KEYS ? keysOf(message) : messageFromWire(message);
}

export async function addMessages(
  connection: Connection,
  id: bigint | number,
  messages: readonly NewMessage[],
  options: AddMessagesOptions & { view?: MessageView | undefined },
): Promise<AgentMessage[] | MessageKeys[]> {
  const view = viewToWire(options.view);
  const response = await write(
    connection,
    AgentStoreService.addMessages,
    {
      conversationId: int64(id, "conversation_id"),
      messages: list(messages, "messages").map((message, index) =>
        toWire(message, `messages[${index}]`),
      ),
      expectedLastSeq: expected(options),
      view,
      fencingToken: int64OrZero(options.fencingToken, "fencing_token"),
      state: stateToWire(options.state),
    },
    options,
  );
  const { messages: added } = response;
  return view === WireView.KEYS ? added.map(keysOf) : messagesFromWire(added);
}

export async function getMessage(
  connection: Connection,
  id: bigint | number,
  seq: bigint | number,
  options: GetMessageOptions,
): Promise<AgentMessage> {
  const { response } = await connection.unary(
    AgentStoreService.getMessage,
    {
      conversationId: int64(id, "conversation_id"),
      seq: int64(seq, "seq"),
      version: int64OrZero(options.version, "version"),
      showDeleted: options.showDeleted === true,
    },
    options,
  );
  return messageFromWire(answered(response.message));
}

export async function getMessages(
  connection: Connection,
  id: bigint | number,
  options: GetMessagesOptions,
): Promise<MessagePage> {
  const { response } = await connection.unary(
    AgentStoreService.getMessages,
    {
      ...rangeToWire(id, options),
      pageToken: textOrEmpty(options.pageToken, "page_token"),
      offset: int64OrZero(options.offset, "offset"),
    },
    options,
  );
  return {
    messages: messagesFromWire(response.messages),
    nextPageToken: response.nextPageToken,
  };
}

export function iterateMessagePages(
  connection: Connection,
  id: bigint | number,
  options: GetMessagesOptions,
): AsyncGenerator<MessagePage, void, undefined> {
  return paginate(options, (page) => getMessages(connection, id, page));
}

/** The fields that a unary and a streaming read have in common. */
export function rangeToWire(id: bigint | number, range: MessageRange): wire.StreamMessagesRequest {
  const order = WIRE_ORDERS.get(range.order);
  if (order === undefined) {
    throw InvalidFieldError.of("order", "must be oldest_first or newest_first");
  }
  return {
    conversationId: int64(id, "conversation_id"),
    pageSize: int32OrZero(range.pageSize, "page_size"),
    afterSeq: int64OrZero(range.afterSeq, "after_seq"),
    beforeSeq: int64OrZero(range.beforeSeq, "before_seq"),
    order,
    lastN: int64OrZero(range.lastN, "last_n"),
    showDeleted: range.showDeleted === true,
  };
}

/** Makes the decoded message the public one, in place: streams of any length pass here. */
export function messageFromWire(message: wire.AgentMessage): AgentMessage {
  const known: Omit<wire.AgentMessage, "role"> & { role: unknown } = message;
  known.role = ROLE_NAMES[message.role] ?? "unknown";
  return known as AgentMessage;
}

/** As `messageFromWire`, for a page of messages, which stays the same array. */
export function messagesFromWire(messages: wire.AgentMessage[]): AgentMessage[] {
  for (const message of messages) messageFromWire(message);
  return messages as (Omit<wire.AgentMessage, "role"> & { role: unknown })[] as AgentMessage[];
}

function viewToWire(view: MessageView | undefined): WireView {
  const found = WIRE_VIEWS.get(view);
  if (found === undefined) throw InvalidFieldError.of("view", "must be full or keys");
  return found;
}

// Nothing else, so that an empty content is not taken for the message's.
function keysOf(message: wire.AgentMessage): MessageKeys {
  const { id, conversationId, seq, timestampMs, revision } = message;
  return { id, conversationId, seq, timestampMs, revision };
}

/** A role as it goes on the wire. `field` is its path in the request. */
export function roleToWire(name: string, field: string): WireRole {
  const role = WIRE_ROLES.get(name);
  if (role === undefined) {
    throw InvalidFieldError.of(field, "must be system, user, assistant or tool");
  }
  return role;
}

/** A message as it goes on the wire. `field` is its path in the request. */
export function toWire(message: NewMessage, field: string): wire.NewMessage {
  return {
    role: roleToWire(message.role, `${field}.role`),
    content: textOrEmpty(message.content, `${field}.content`),
    timestampMs:
      message.timestampMs === undefined
        ? undefined
        : int64(message.timestampMs, `${field}.timestamp_ms`),
    name: textOrEmpty(message.name, `${field}.name`),
    toolCalls: list(message.toolCalls ?? [], `${field}.tool_calls`).map((call, index) => {
      const path = `${field}.tool_calls[${index}]`;
      return {
        id: text(call.id, `${path}.id`),
        name: text(call.name, `${path}.name`),
        arguments: text(call.arguments, `${path}.arguments`),
      };
    }),
    toolCallId: textOrEmpty(message.toolCallId, `${field}.tool_call_id`),
    payload: textOrEmpty(message.payload, `${field}.payload`),
    payloadType: textOrEmpty(message.payloadType, `${field}.payload_type`),
    metadata: jsonObject(message.metadata, `${field}.metadata`),
    usage: message.usage === undefined ? undefined : usageToWire(message.usage, `${field}.usage`),
    embedding:
      message.embedding === undefined
        ? undefined
        : embeddingToWire(message.embedding, `${field}.embedding`),
  };
}

function embeddingToWire({ model, values }: Embedding, field: string): wire.Embedding {
  return {
    model: text(model, `${field}.model`),
    values: list(values, `${field}.values`).map((value, index) => {
      if (typeof value === "number") return value;
      throw InvalidFieldError.of(`${field}.values[${index}]`, "must be a number");
    }),
  };
}

function usageToWire(usage: NewUsage, field: string): wire.Usage {
  return {
    inputTokens: int64OrZero(usage.inputTokens, `${field}.input_tokens`),
    outputTokens: int64OrZero(usage.outputTokens, `${field}.output_tokens`),
    cachedTokens: int64OrZero(usage.cachedTokens, `${field}.cached_tokens`),
    reasoningTokens: int64OrZero(usage.reasoningTokens, `${field}.reasoning_tokens`),
    costMicros: int64OrZero(usage.costMicros, `${field}.cost_micros`),
  };
}

function expected(options: AddMessagesOptions): bigint | undefined {
  return options.expectedLastSeq === undefined
    ? undefined
    : int64(options.expectedLastSeq, "expected_last_seq");
}
