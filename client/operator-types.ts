// What the calls that only operators make take and return, but for those about the audit log.
import type { NewSnapshotPolicy, SnapshotPolicy } from "./types.js";

/** What holds for all sessions of a model. */
export interface ModelPolicy {
  modelId: string;
  /**
   * A session is removed when it has rested for so many milliseconds: since the latest
   * `timestampMs` of its messages and since its last change. Absent: sessions are kept.
   */
  retentionMs?: bigint | undefined;
  /** When a snapshot is taken of a session that says nothing about it itself; absent: never. */
  snapshotPolicy?: SnapshotPolicy | undefined;
  /** When the policy was last changed; absent for a model that has none. */
  updatedAt?: Date | undefined;
}

/** What to change of a model's policy: a key that is there is changed, `null` clears it. */
export interface ModelPolicyChanges {
  /** From a minute to 36,500 days. */
  retentionMs?: bigint | number | null | undefined;
  /** When snapshots are taken by themselves. */
  snapshotPolicy?: NewSnapshotPolicy | null | undefined;
}

/** What an erasure removed. What an earlier one that was cut short had removed is not counted again. */
export interface ErasureReceipt {
  /** Sessions that were removed, with all that belonged to them. */
  sessions: bigint;
  /** Messages that were removed with them. */
  messages: bigint;
  /** Earlier versions of messages that were removed, or emptied with their message. */
  messageVersions: bigint;
  /** Snapshots that were removed. */
  snapshots: bigint;
  /** States that were removed. */
  states: bigint;
  /** Kept answers to repeated requests that were removed. */
  keptAnswers: bigint;
  /** Forks of other people that had messages of this person. */
  forks: bigint;
  /** Messages that were emptied there. */
  emptiedMessages: bigint;
}

/** How far search is behind what was written, in the token's tenant. */
export interface SearchStatus {
  /** How many messages the index of full text does not have yet, about. */
  unindexedMessages: bigint;
  /** How many messages wait for their embedding. */
  pendingEmbeddings: bigint;
  /** For how long the one has waited that waits longest, in milliseconds; 0 when none does. */
  embeddingLagMs: bigint;
  /** How many messages could not be embedded. */
  failedEmbeddings: bigint;
  /** The model that the server embeds with; empty where it does not embed. */
  embeddingModel: string;
  /** How many numbers its vectors have; 0 until the first one has come. */
  embeddingDimensions: number;
  /** Whether all messages from before the model have been embedded or wait for it. */
  embeddingBackfilled: boolean;
  /** Whether its vectors have an index. */
  embeddingIndexed: boolean;
  /** Why the embeddings endpoint does not answer; empty while it does. */
  embeddingError: string;
}

/** A message that the embeddings endpoint would not embed. */
export interface EmbeddingFailure {
  conversationId: bigint;
  seq: bigint;
  /** How often it was tried. */
  tries: number;
  /** Why it failed the last time. */
  error: string;
  /** When it was given up. */
  failedAt?: Date | undefined;
}

/** A page of messages that could not be embedded. */
export interface EmbeddingFailurePage {
  failures: EmbeddingFailure[];
  /** For the next page; empty when this was the last one. */
  nextPageToken: string;
}
