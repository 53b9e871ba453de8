// What an operator sets, and the fixed limits of the service.
import type { EndpointOptions } from "./embeddings/endpoint.js";

/** The options of `agentstore serve`. */
export interface ServeOptions {
  /** Address to bind. */
  host: string;
  /** Port to bind; 0 picks a free one. */
  port: number;
  /** Port for HTTP and WebSockets; 0 picks a free one; absent: neither. */
  httpPort?: number | undefined;
  /** Origins whose pages may call over HTTP and WebSockets, besides the server's own. */
  allowOrigins?: string[] | undefined;
  /** Postgres to use; absent: the embedded one. */
  databaseUrl?: string | undefined;
  /** Where the embedded Postgres keeps its data. */
  dataDir?: string | undefined;
  /** False refuses to start on an old schema instead of migrating it. */
  migrate: boolean;
  /** PEM files of the server's certificate chain and key. */
  tlsCert?: string | undefined;
  tlsKey?: string | undefined;
  /** File of accepted tokens; turns authentication on. */
  tokensFile?: string | undefined;
  /** Permits to bind beyond loopback without TLS and authentication. */
  insecure: boolean;
  /** Processes that serve, 1 to 256; at most as many as poolSize. */
  workers: number;
  /** Connections to Postgres, 1 to 1,000, of all workers together. */
  poolSize: number;
  /** Largest encoded NewMessage, in bytes. */
  maxMessageBytes: number;
  /** Whether the audit log records appends too, which their own rows tell of anyway. */
  auditAppends?: boolean | undefined;
  /** How long calls in flight may take to finish at shutdown, in milliseconds. */
  graceMs: number;
  /** How often what has expired is removed, about, in milliseconds; 0 for never. */
  sweepMs: number;
  /** Where messages and queries are embedded; absent: nowhere. */
  embeddings?: EndpointOptions | undefined;
  /** pino's level. */
  logLevel: string;
}

/** Whether an address is one that other machines do not reach. */
export function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|::1)$/.test(host);
}

/** The limits that handlers and the transport enforce. */
export const limits = {
  pageSizeDefault: 100,
  pageSizeMost: 1_000,
  searchLimitDefault: 20,
  /** A page ends after the message that passes this many bytes. */
  pageBytes: 1024 * 1024,
  batchMessages: 1_000,
  /** Largest request that the transport accepts: 1,000 messages of an ordinary size. */
  requestBytes: 64 * 1024 * 1024,
  metadataBytes: 256 * 1024,
  /** What the default recursion limit of protobuf parsers, 100, leaves to a Struct. */
  metadataDepth: 32,
  idCharacters: 256,
  nameCharacters: 1_024,
  titleCharacters: 1_000,
  tags: 64,
  tagCharacters: 128,
  filterAllTags: 16,
  filterMetadataBytes: 16 * 1024,
  toolCalls: 1_000,
  /** Snapshots that a session may have. */
  snapshots: 100,
  snapshotNameCharacters: 256,
  /** How long a server may not know of the first policy of snapshots that another one has set. */
  snapshotPoliciesMs: 10_000,
  snapshotEveryMessages: 1_000_000n,
  snapshotEveryMinutes: 525_600n,
  /** How long the retention of a model's sessions may be. */
  retentionLeastMs: 60_000n,
  retentionMostMs: 36_500n * 86_400_000n,
  /** Sessions and forks that an erasure looks up at a time. */
  eraseBatch: 100,
  /** Sessions that a sweep looks up at a time. */
  sweepBatch: 100,
  /** How long an answer is kept for a repeat of its request. */
  keptAnswersMs: 7 * 86_400_000,
  /** Old answers that are forgotten in one statement. */
  answersBatch: 1_000,
  /** How long the change log is kept, for those who resume from a place in it. */
  keptChangesMs: 86_400_000,
  /** Old changes that are removed in one statement. */
  changesBatch: 10_000,
  /** Events that a page of a watch has at the most. */
  watchPageEvents: 100,
  /** After how long in which nothing happens a watch says that it is alive. */
  watchHeartbeatMs: 15_000,
  /** What all watches of a process keep of events that have been told, in bytes. */
  watchKeptBytes: 16 * 1024 * 1024,
  /** Sessions whose events are read in one statement. */
  watchReadSessions: 200,
  /** Sessions whose events one watch of many reads in one statement. */
  watchTellSessions: 32,
  /** Pages of changes that are kept for watches that have not seen them yet. */
  watchKeptPages: 256,
  /** How often the change log is looked at while somebody watches, in case a wake-up was lost. */
  changesPollMs: 1_000,
  /** The same where Postgres cannot wake the server. */
  changesPollAloneMs: 250,
  /** How long the change log is left alone when it was read. */
  changesRestMs: 5,
  /** How long a server waits before it wakes the others again. */
  changesNotifyMs: 5,
  /** Changes that are read from the log at a time. */
  changesPage: 1_000,
  /** Longest position of a watch. */
  watchPositionCharacters: 64 * 1024,
  /** Largest state of a session. */
  stateBytes: 4 * 1024 * 1024,
  etagCharacters: 128,
  requestIdCharacters: 128,
  queryCharacters: 10_000,
  /** Messages that a search returns with each result, before it and behind it. */
  searchContextMessages: 10,
  /** How many results a search by meaning has, on all pages together. */
  searchRanked: 1_000,
  /** How many of each kind of results are fused: bench/relevance. */
  searchFused: 100,
  /** Vectors that a search compares with the query where it has no index: docs/decisions/0022. */
  searchVectors: 50_000,
  /** Numbers of a vector: what pgvector can index. */
  embeddingDimensions: 4_000,
  /** How much of a message is embedded: what models read of it at the most. */
  embeddingCharacters: 6_000,
  /** Messages that one request to an embeddings endpoint holds, and characters. */
  embeddingBatch: 64,
  embeddingBatchCharacters: 100_000,
  /** How long a request to an embeddings endpoint may take, with its answer. */
  embeddingRequestMs: 30_000,
  embeddingAnswerBytes: 16 * 1024 * 1024,
  /** How long messages belong to the worker that has taken them up. */
  embeddingClaimMs: 300_000,
  /** How often a message may fail by itself before it is given up. */
  embeddingFailures: 6,
  /** How long an embeddings endpoint that does not answer is left alone, at the most. */
  embeddingPauseMostMs: 600_000,
  /** How often the change log is looked through for messages to embed. */
  embeddingFeedMs: 1_000,
  /** Changes that are taken from the log at a time, and messages from before a model. */
  embeddingFeedBatch: 1_000,
  /** How long changes are kept for servers that embed, when none has asked for them. */
  idleReaderMs: 7 * 86_400_000,
  /** Messages that may wait before those from before a model are added to them. */
  embeddingBackfillWaiting: 10_000n,
  searchContextBytes: 4 * 1024 * 1024,
  /** Words of a query that count. */
  searchTerms: 16,
  /** The most telling ones of them, which rank a message. */
  searchRankingTerms: 8,
  /** Messages that are walked through before a search knows whether its matches are common. */
  searchWalk: 1_000,
  /** Messages that tell how common the words of a query are. */
  searchSample: 400,
  /** Messages that the index of words may name to be ranked. */
  searchCandidates: 1_000,
  /** Those of them that may have some words of a query alone, as far as a sample can tell. */
  searchPartialCandidates: 500,
  /** Messages that are ranked, the newest ones, where so many of them have all words of a query. */
  searchRankedNewest: 1_500,
  searchRankedNewestHits: 75,
  /** Messages that are not indexed yet and are looked through word by word. */
  searchFresh: 300,
  /** Sessions that are searched one by one where a filter names them, and their messages. */
  searchSessions: 500,
  searchSessionMessages: 5_000n,
  /** How long the indexer waits before it looks for changes again. */
  indexIdleMs: 500,
  /** The same when it has just indexed all that there was: docs/decisions/0021. */
  indexRestMs: 200,
  /** Changes that the indexer reads at a time, and what it indexes in one transaction. */
  indexChanges: 200,
  indexMessages: 200,
  indexBytes: 1024 * 1024,
  /** Messages a second from which on the database is busy, and how often that is looked at. */
  indexBusyRate: 500,
  indexLoadMs: 1_000,
  /** How much longer the indexer pauses than it has worked while the database is busy. */
  indexBusyPauses: 9,
  /** About how many characters of a message are shown around what was found. */
  snippetCharacters: 240,
  /** How far into a message its words are compared with those of a query, and how many of a page. */
  highlightCharacters: 200_000,
  highlightWords: 2_000,
  firstMessageCharacters: 200,
  /** How long a lease may last. */
  leaseMsDefault: 30_000n,
  leaseMsLeast: 1_000n,
  leaseMsMost: 3_600_000n,
  /** LoadContext reads no further when it has read this many bytes of messages. */
  contextBytes: 16 * 1024 * 1024,
  /** Largest token count or price of one message: sums stay far below 2^63. */
  usageMost: 10n ** 15n,
  /** Longest time that a unary call or one page of a stream may take. */
  callMs: 60_000,
  /** Calls that wait for a database connection before the server says that it is full. */
  waitingCalls: 1_000,
  /** Appends that wait for their group before the server says that it is full. */
  waitingAppends: 10_000,
  /** Groups of appends that are written at a time. */
  appendFlushes: 2,
  /** Messages that a group has at the most, unless one append has more. */
  appendGroupMessages: 1_000,
  /** Sessions of which the server remembers where they stood after their last append. */
  rememberedSessions: 10_000,
  /** How long a call waits for a database connection. */
  acquireMs: 5_000,
  /** Connections over HTTP, WebSockets among them, that a server has at a time. */
  httpConnections: 2_048,
  /** WebSockets that a server has at a time. */
  webSockets: 1_024,
  /** Largest frame that a WebSocket takes: the request of a stream. */
  socketFrameBytes: 1024 * 1024,
  /** How long a WebSocket may be open before its call starts. */
  socketStartMs: 10_000,
  /** How often a WebSocket is asked for a sign of life. */
  socketPingMs: 30_000,
  /** How long a connection may take until a request's headers are there. */
  httpHeadersMs: 10_000,
  /** How long a connection without a request is kept: longer than what stands in front keeps it. */
  httpIdleMs: 75_000,
  /** Memory for the bodies of HTTP requests that are being read or answered. */
  httpBodiesBytes: 256 * 1024 * 1024,
  /** How often the audit log's new events are given their places. */
  auditSealMs: 1_000,
  /** Events that get their places in one transaction. */
  auditBatch: 1_000,
  /** Events that are looked through for the tenants that have some. */
  auditInboxSample: 10_000,
  /** Events that one VerifyAudit checks: some seconds' worth. */
  auditVerifyEvents: 100_000,
  /** Sessions that an export may name one by one. */
  exportIds: 1_000,
  /** A piece of an export ends when it passes so many UTF-16 units. */
  exportChunkCharacters: 256 * 1024,
  /** Longest time that an export may hold its snapshot. */
  exportMs: 3_600_000,
  /** Largest piece of an import. */
  importChunkBytes: 4 * 1024 * 1024,
  /** Longest line of an import: the largest message, with every character escaped. */
  importLineBytes: 32 * 1024 * 1024,
  /** Sessions that one import may hold: their ids fit into an answer. */
  importSessions: 100_000,
  /** What an import holds of a session before it writes that. */
  importBatchBytes: 4 * 1024 * 1024,
} as const;
