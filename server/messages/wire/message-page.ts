// A page of messages, written from Postgres' rows with no object for a row in between.
//
// Its bytes are those of `repeated AgentMessage messages = 1` as toAgentMessage() and the generated
// encoder write them. Only what is not text in its column goes through them: tool calls, metadata
// and texts with U+0000.
import { AgentMessage, type Role, ToolCall } from "../../../gen/agentstore/v1/messages.js";
import { Struct } from "../../../gen/google/protobuf/struct.js";
import { Timestamp } from "../../../gen/google/protobuf/timestamp.js";
import type { Encoded } from "../../rpc/method.js";
import { ROLE_NAMES, type StoredText } from "../message.js";
import * as field from "./message-fields.js";
import { ProtobufBuffer } from "./protobuf-buffer.js";

/** The columns that a row must have, in this order. */
export const WIRE_COLUMNS = [
  "exact",
  "id",
  "conversation_id",
  "role",
  "content",
  "ts_ms",
  "seq",
  "name",
  "tool_calls",
  "tool_call_id",
  "payload",
  "payload_type",
  "metadata",
  "input_tokens",
  "output_tokens",
  "cached_tokens",
  "reasoning_tokens",
  "cost_micros",
  "revision",
  "edited_at",
  "version",
  "deleted_at",
] as const;

const USAGE_FIELDS = 5;
// The keys of Usage's fields and five varints: its length takes one byte.
const USAGE_GUESS = 55;
// What a message may have beyond the bytes of its row: keys and lengths.
const OVERHEAD = 64;

// Postgres counts from the beginning of the year 2000.
const POSTGRES_EPOCH_MS = 946_684_800_000;

const ROLES = Object.entries(ROLE_NAMES).map(([role, name]) => ({
  role: Number(role) as Role,
  name: Buffer.from(name),
}));

/** Collects messages, then encodes them as a response. */
export class MessagePage {
  /** How many messages it has. */
  count = 0;
  /** The first message's seq. */
  firstSeq = 0n;
  readonly #out = new ProtobufBuffer();
  // The row that is being read.
  #row: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;
  #exact: AgentMessage | undefined;
  #seqHigh = 0;
  #seqLow = 0;

  /** The last message's seq. */
  get lastSeq(): bigint {
    return (BigInt(this.#seqHigh) << 32n) | BigInt(this.#seqLow);
  }

  /**
   * Adds a message.
   *
   * @param row holds a DataRow of WIRE_COLUMNS in the binary format, from start, where its count of
   *   columns stands, to end
   */
  add(row: Buffer, start: number, end: number): void {
    if (row.readInt16BE(start) !== WIRE_COLUMNS.length) {
      throw new Error(`a message's row has ${row.readInt16BE(start)} columns`);
    }
    this.#row = row;
    this.#at = start + 2;
    this.#end = end;
    const out = this.#out;
    const guess = end - start;
    out.reserve(guess + OVERHEAD);
    out.key(field.MESSAGES);
    const begin = out.begin(guess);
    this.#fields();
    out.end(begin, guess);
    if (this.count === 0) this.firstSeq = this.lastSeq;
    this.count++;
  }

  /** Encodes the response; the page takes no more messages. */
  encode<Response>(otherFields: Uint8Array): Encoded<Response> {
    this.#out.reserve(otherFields.length);
    this.#out.raw(otherFields, 0, otherFields.length);
    return this.#out.finish();
  }

  // In the order of WIRE_COLUMNS, which but for `exact` is that of the fields.
  #fields(): void {
    this.#readExact();
    this.#int64(field.ID);
    this.#int64(field.CONVERSATION_ID);
    this.#role();
    this.#text(field.CONTENT, "content");
    this.#int64(field.TIMESTAMP_MS);
    this.#seq();
    this.#text(field.NAME, "name");
    this.#toolCalls();
    this.#text(field.TOOL_CALL_ID, "toolCallId");
    this.#text(field.PAYLOAD, "payload");
    this.#text(field.PAYLOAD_TYPE, "payloadType");
    this.#metadata();
    this.#usage();
    this.#int64(field.REVISION);
    this.#time(field.EDITED_AT);
    this.#int64(field.VERSION);
    this.#time(field.DELETED_AT);
  }

  // The next column's length, -1 for null; what #at points to is then the column's value.
  #length(): number {
    const length = int32(this.#row, this.#at) | 0;
    this.#at += 4;
    return length;
  }

  #skip(length: number): void {
    if (length > 0) this.#at += length;
  }

  // The value of a column; a view of the row's bytes.
  #value(length: number): Buffer {
    const value = this.#row.subarray(this.#at, this.#at + length);
    this.#at += length;
    return value;
  }

  #readExact(): void {
    const length = this.#length();
    this.#exact = length < 0 ? undefined : AgentMessage.decode(this.#value(length));
  }

  #int64(key: number): void {
    if (this.#length() < 0) return;
    const high = int32(this.#row, this.#at);
    const low = int32(this.#row, this.#at + 4);
    this.#at += 8;
    if (high === 0 && low === 0) return;
    this.#out.key(key);
    this.#out.int64(high, low);
  }

  #seq(): void {
    this.#seqHigh = int32(this.#row, this.#at + 4);
    this.#seqLow = int32(this.#row, this.#at + 8);
    this.#int64(field.SEQ);
  }

  #role(): void {
    const length = this.#length();
    const known = ROLES.find(({ name }) => this.#isNext(name, length));
    this.#skip(length);
    if (!known) return;
    this.#out.key(field.ROLE);
    this.#out.varint(known.role);
  }

  #isNext(text: Buffer, length: number): boolean {
    if (length !== text.length) return false;
    for (let index = 0; index < length; index++) {
      if (this.#row[this.#at + index] !== text[index]) return false;
    }
    return true;
  }

  #text(key: number, field: StoredText): void {
    const length = this.#length();
    const exact = this.#exact?.[field];
    if (exact) this.#splice(key, Buffer.from(exact));
    else if (length > 0) {
      this.#out.key(key);
      this.#out.varint(length);
      this.#out.raw(this.#row, this.#at, this.#at + length);
    }
    this.#skip(length);
  }

  #toolCalls(): void {
    const length = this.#length();
    if (length < 0) return;
    const calls = JSON.parse(this.#value(length).toString()) as ToolCall[] | null;
    for (const call of calls ?? []) this.#splice(field.TOOL_CALLS, ToolCall.encode(call).finish());
  }

  #metadata(): void {
    const length = this.#length();
    if (length < 0) return;
    // Before the JSON text of a jsonb stands the version of its format.
    const json = this.#value(length).subarray(1).toString();
    const metadata = JSON.parse(json) as Record<string, unknown> | null;
    if (metadata) this.#splice(field.METADATA, Struct.encode(Struct.wrap(metadata)).finish());
  }

  // Present when input_tokens is.
  #usage(): void {
    if ((int32(this.#row, this.#at) | 0) < 0) {
      for (let field = 0; field < USAGE_FIELDS; field++) this.#skip(this.#length());
      return;
    }
    this.#out.key(field.USAGE);
    const begin = this.#out.begin(USAGE_GUESS);
    for (let field = 1; field <= USAGE_FIELDS; field++) this.#int64(field << 3);
    this.#out.end(begin, USAGE_GUESS);
  }

  // Few messages have one, so it may go the long way.
  #time(key: number): void {
    const length = this.#length();
    if (length < 0) return;
    // The service writes whole milliseconds.
    const ms = Number(this.#value(length).readBigInt64BE() / 1000n) + POSTGRES_EPOCH_MS;
    const seconds = Math.floor(ms / 1000);
    const nanos = (ms - seconds * 1000) * 1_000_000;
    this.#splice(key, Timestamp.encode({ seconds: BigInt(seconds), nanos }).finish());
  }

  // A field whose bytes are not the row's.
  #splice(key: number, bytes: Uint8Array): void {
    this.#out.reserve(bytes.length + this.#end - this.#at + OVERHEAD);
    this.#out.key(key);
    this.#out.varint(bytes.length);
    this.#out.raw(bytes, 0, bytes.length);
  }
}

function int32(bytes: Buffer, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}
