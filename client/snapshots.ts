// The calls about forks and snapshots.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import { RestoreMode } from "../gen/agentstore/v1/snapshots.js";
import { answered, paginate, write } from "./calls.js";
import type { Connection } from "./connection.js";
import { InvalidFieldError } from "./errors.js";
import { int32OrZero, int64, textOrEmpty } from "./fields.js";
import type {
  CallOptions,
  ChangeOptions,
  CreateSnapshotOptions,
  ForkSessionOptions,
  PageOptions,
  SnapshotPage,
  WriteOptions,
} from "./options.js";
import { sessionFromWire } from "./sessions.js";
import type { AgentSession, SessionSnapshot } from "./types.js";
import { expected } from "./versions.js";

const MODES = new Map<string, RestoreMode>([
  ["fork", RestoreMode.FORK],
  ["roll_back", RestoreMode.ROLL_BACK],
]);

export async function forkSession(
  connection: Connection,
  id: bigint | number,
  options: ForkSessionOptions,
): Promise<AgentSession> {
  const { atSeq } = options;
  const response = await write(
    connection,
    AgentStoreService.forkSession,
    {
      conversationId: int64(id, "conversation_id"),
      atSeq: atSeq === undefined ? undefined : int64(atSeq, "at_seq"),
    },
    options,
  );
  return sessionFromWire(answered(response.session));
}

export async function createSnapshot(
  connection: Connection,
  id: bigint | number,
  options: CreateSnapshotOptions,
): Promise<SessionSnapshot> {
  const response = await write(
    connection,
    AgentStoreService.createSnapshot,
    { conversationId: int64(id, "conversation_id"), name: textOrEmpty(options.name, "name") },
    options,
  );
  return answered(response.snapshot) as SessionSnapshot;
}

export async function listSnapshots(
  connection: Connection,
  id: bigint | number,
  options: PageOptions,
): Promise<SnapshotPage> {
  const { response } = await connection.unary(
    AgentStoreService.listSnapshots,
    {
      conversationId: int64(id, "conversation_id"),
      pageSize: int32OrZero(options.pageSize, "page_size"),
      pageToken: textOrEmpty(options.pageToken, "page_token"),
    },
    options,
  );
  return response as SnapshotPage;
}

export function iterateSnapshotPages(
  connection: Connection,
  id: bigint | number,
  options: PageOptions,
): AsyncGenerator<SnapshotPage, void, undefined> {
  return paginate(options, (page) => listSnapshots(connection, id, page));
}

export async function getSnapshot(
  connection: Connection,
  id: bigint | number,
  snapshotId: bigint | number,
  options: CallOptions,
): Promise<SessionSnapshot> {
  const { response } = await connection.unary(
    AgentStoreService.getSnapshot,
    keyToWire(id, snapshotId),
    options,
  );
  return answered(response.snapshot) as SessionSnapshot;
}

export async function restoreSnapshot(
  connection: Connection,
  id: bigint | number,
  snapshotId: bigint | number,
  mode: "fork" | "roll_back",
  options: ChangeOptions,
): Promise<AgentSession> {
  const wireMode = MODES.get(mode);
  if (wireMode === undefined) throw InvalidFieldError.of("mode", "must be fork or roll_back");
  const response = await write(
    connection,
    AgentStoreService.restoreSnapshot,
    { ...keyToWire(id, snapshotId), mode: wireMode, expectedRevision: expected(options) },
    options,
  );
  return sessionFromWire(answered(response.session));
}

export async function deleteSnapshot(
  connection: Connection,
  id: bigint | number,
  snapshotId: bigint | number,
  options: WriteOptions,
): Promise<boolean> {
  const response = await write(
    connection,
    AgentStoreService.deleteSnapshot,
    keyToWire(id, snapshotId),
    options,
  );
  return response.deleted;
}

function keyToWire(id: bigint | number, snapshotId: bigint | number) {
  return {
    conversationId: int64(id, "conversation_id"),
    snapshotId: int64(snapshotId, "snapshot_id"),
  };
}
