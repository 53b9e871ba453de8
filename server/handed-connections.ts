// The connections that a worker has been handed and has not taken: another one gets them when it dies.
import type { Worker } from "node:cluster";

// What the processes of node:cluster say to each other of a connection. Node does not document it; the
// tests of workers fail where it is not so.
interface Said {
  cmd: "NODE_CLUSTER";
  act?: "newconn";
  seq?: number;
  ack?: number;
  accepted?: boolean;
}

/**
 * Looks after the connections of a worker. node:cluster waits for it to say that it has taken each
 * one, also when it has died: such a connection would stay open, and nobody would ever answer.
 *
 * @param othersServe whether another worker can take a connection; where none can, it is closed
 */
export function rescueConnections(worker: Worker, othersServe: () => boolean): void {
  const handed = new Set<number>();
  const { process } = worker;
  const send = process.send.bind(process) as (...sent: unknown[]) => boolean;
  process.send = (...sent: unknown[]) => {
    const { act, seq } = sent[0] as Said;
    if (act === "newconn" && seq !== undefined) handed.add(seq);
    return send(...sent);
  };
  process.on("internalMessage", ({ ack }: Said) => {
    if (ack !== undefined) handed.delete(ack);
  });
  // By then all that it has said has been read. "disconnect" is not emitted while a connection is on
  // its way, and before the worker is removed it would be handed others.
  process.once("close", () => {
    worker.disconnect();
    for (const ack of handed) {
      // As a worker says that closes its server; where it accepts, the parent closes its own copy.
      const answer: Said = { cmd: "NODE_CLUSTER", ack, accepted: !othersServe() };
      process.emit("internalMessage", answer);
    }
  });
}
