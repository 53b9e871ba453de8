// StreamMessages reads several small pages at a time, and cuts none of them short for it.

import { credentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AgentStoreClient } from "../../gen/agentstore/v1/agent_store.js";
import {
  MessageOrder,
  StreamMessagesRequest,
  type StreamMessagesResponse,
} from "../../gen/agentstore/v1/messages.js";
import { withClient } from "../harness/postgres.js";
import { startServer, type TestServer } from "../harness/server.js";

const COUNT = 1_050;
let server: TestServer;
let client: AgentStoreClient;
let conversationId: bigint;

beforeAll(async () => {
  server = await startServer();
  client = new AgentStoreClient(server.address, credentials.createInsecure());
  conversationId = await withClient(server.databaseUrl, async (database) => {
    await database.query("INSERT INTO models (id) VALUES ('m')");
    const { rows } = await database.query<{ id: string }>(
      `INSERT INTO conversations (model_id, last_seq, revision, message_count)
       VALUES ('m', $1::bigint, $1::bigint + 1, $1::bigint) RETURNING id`,
      [COUNT],
    );
    // 5 KiB each: about 200 of them make up the bytes of a page.
    await database.query(
      `INSERT INTO conversation_messages (conversation_id, seq, revision, role, content)
       SELECT $1::bigint, seq, seq + 1, 'user', repeat('x', 5120) FROM generate_series(1, $2::int) AS seq`,
      [rows[0]!.id, COUNT],
    );
    return BigInt(rows[0]!.id);
  });
});
afterAll(async () => {
  client?.close();
  await server?.stop();
});

test.each([
  [MessageOrder.OLDEST_FIRST, 100],
  [MessageOrder.NEWEST_FIRST, 100],
  [MessageOrder.OLDEST_FIRST, 30],
  [MessageOrder.NEWEST_FIRST, 1],
])("order %i, pages of %i", async (order, pageSize) => {
  const request = StreamMessagesRequest.fromPartial({ conversationId, order, pageSize });
  const pages: StreamMessagesResponse[] = [];
  const stream: AsyncIterable<StreamMessagesResponse> = client.streamMessages(request);
  for await (const page of stream) pages.push(page);

  const sizes = Array.from({ length: Math.ceil(COUNT / pageSize) }, (_, page) =>
    Math.min(pageSize, COUNT - page * pageSize),
  );
  expect(pages.map(({ messages }) => messages.length)).toEqual(sizes);
  const seqs = Array.from({ length: COUNT }, (_, index) => BigInt(index + 1));
  if (order === MessageOrder.NEWEST_FIRST) seqs.reverse();
  expect(pages.flatMap(({ messages }) => messages.map(({ seq }) => seq))).toEqual(seqs);
  expect(pages.map(({ lastSeq }) => lastSeq)).toEqual(
    pages.map(({ messages }) => messages.at(-1)!.seq),
  );
});
