// Two workers on one session: only the holder of the lease appends, and nothing interleaves.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DialogueOptions, PersistentDialogue, type Tool } from "../../client/agent/index.js";
import { AgentStoreClient, LeaseHeldError, LeaseLostError } from "../../client/index.js";
import { startServer, type TestServer } from "../harness/server.js";
import { calling, gate, scripted, type Turn } from "../unit/client/agent/scripted.js";

let server: TestServer;
let store: AgentStoreClient;
beforeAll(async () => {
  server = await startServer();
  store = new AgentStoreClient(server.url);
});
afterAll(async () => {
  store.close();
  await server.stop();
});

async function worker(id: bigint, turns: Turn[], options: Partial<DialogueOptions> = {}) {
  const { chat } = scripted(...turns);
  return PersistentDialogue.resume(store, id, { chat, ...options });
}

async function newSession(): Promise<bigint> {
  return (await store.createSession("m")).id;
}

async function contents(id: bigint): Promise<string[]> {
  const { messages } = await store.getMessages(id, { pageSize: 1_000 });
  return messages.map(({ role, content }) => `${role} ${content}`.trim());
}

/** Takes the lease away from whoever holds it, as if it had expired. */
async function takeOver(id: bigint, turns: Turn[], options: Partial<DialogueOptions> = {}) {
  const token = await store.acquireLease(id, "the test").then(
    () => expect.unreachable("nobody held the lease"),
    async (error: LeaseHeldError) => {
      expect(error).toBeInstanceOf(LeaseHeldError);
      // A session's tokens count from 1.
      for (let candidate = 1n; ; candidate++) {
        if (await store.releaseLease(id, candidate)) return candidate;
      }
    },
  );
  return { token, dialogue: await worker(id, turns, options) };
}

describe("a dialogue that is open", () => {
  it("is nobody else's, who is told whose it is", async () => {
    const id = await newSession();
    const one = await worker(id, [], { holder: "worker-1" });
    const error: unknown = await worker(id, [], { holder: "worker-2" }).catch(
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(LeaseHeldError);
    expect((error as LeaseHeldError).holder).toBe("worker-1");
    await one.close();
    await (await worker(id, [], { holder: "worker-2" })).close();
  });

  it("is waited for, until it is closed", async () => {
    const id = await newSession();
    const one = await worker(id, ["Hi"]);
    const other = worker(id, ["You are welcome"], { leaseWaitMs: 60_000 });
    await one.send("Hello");
    await one.close();
    const two = await other;
    await two.send("Thank you");
    await two.close();
    expect(await contents(id)).toEqual([
      "user Hello",
      "assistant Hi",
      "user Thank you",
      "assistant You are welcome",
    ]);
  });

  it("is waited for no longer than the caller wants", async () => {
    const id = await newSession();
    const one = await worker(id, []);
    const signal = AbortSignal.timeout(50);
    await expect(worker(id, [], { leaseWaitMs: 60_000, signal })).rejects.toMatchObject({
      name: "AbortError",
    });
    await expect(worker(id, [], { leaseWaitMs: 50 })).rejects.toBeInstanceOf(LeaseHeldError);
    await one.close();
  });

  it("keeps its lease for longer than that lasts", async () => {
    const id = await newSession();
    const client = new AgentStoreClient(server.url);
    const renew = client.renewLease.bind(client);
    const fourTimes = gate();
    let renewed = 0;
    client.renewLease = async (...args) => {
      const lease = await renew(...args);
      if (++renewed === 4) fourTimes.open();
      return lease;
    };
    const { chat } = scripted();
    const one = await PersistentDialogue.resume(client, id, { chat, leaseTtlMs: 1_000 });
    // At every third of it.
    await fourTimes.promise;
    await expect(worker(id, [])).rejects.toBeInstanceOf(LeaseHeldError);
    await one.close();
    client.close();
    await (await worker(id, [])).close();
  });
});

describe("a worker that has lost its lease", () => {
  it("is refused at its next append, and is over", async () => {
    const id = await newSession();
    const asking = gate();
    const answering = gate<string>();
    const slow: Turn = async () => {
      asking.open();
      return { message: { role: "assistant", content: await answering.promise } };
    };
    const fenced = await worker(id, [slow, "never"]);
    const turn = fenced.send("Hello");
    await asking.promise;
    const { dialogue: other } = await takeOver(id, ["Hi"]);
    expect(await other.continue()).toMatchObject({ response: "Hi" });
    answering.open("Too late");

    await expect(turn).rejects.toBeInstanceOf(LeaseLostError);
    await expect(fenced.continue()).rejects.toBeInstanceOf(LeaseLostError);
    await expect(fenced.send("Hello?")).rejects.toBeInstanceOf(LeaseLostError);
    await fenced.close();
    // It has not taken the other's lease along.
    await other.send("Thank you").catch(() => {});
    await other.close();
    expect(await contents(id)).toEqual(["user Hello", "assistant Hi", "user Thank you"]);
  });

  it("learns it when it renews, and its tools are told to stop", async () => {
    const id = await newSession();
    const begun = gate();
    const stopped = gate<unknown>();
    const slow: Tool = {
      name: "slow",
      inputSchema: { type: "object" },
      call: (_args, { signal }) => {
        begun.open();
        return new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            stopped.open(signal.reason);
            reject(new Error("stopped"));
          });
        });
      },
    };
    const fenced = await worker(id, [calling(["c1", "slow"]), "never"], {
      tools: [slow],
      leaseTtlMs: 1_000,
    });
    const turn = fenced.send("Hello");
    turn.catch(() => {});
    await begun.promise;
    const { dialogue: other } = await takeOver(id, []);
    expect(await stopped.promise).toBeInstanceOf(LeaseLostError);
    await expect(turn).rejects.toBeInstanceOf(LeaseLostError);
    expect(other.pendingCalls).toMatchObject([{ id: "c1" }]);
    await fenced.close();
    await other.close();
    expect(await contents(id)).toEqual(["user Hello", "assistant"]);
  });

  it("does not execute interrupted calls", async () => {
    const id = await newSession();
    await store.addMessage(id, "assistant", "", {
      toolCalls: [{ id: "c1", name: "buy", arguments: "{}" }],
    });
    let bought = 0;
    const buy: Tool = { name: "buy", inputSchema: {}, call: () => `bought ${++bought}` };
    const options = { tools: [buy], interruptedCalls: "execute" as const };
    const fenced = await worker(id, ["never"], options);
    const { dialogue: other } = await takeOver(id, ["Done"], options);
    await expect(fenced.continue()).rejects.toBeInstanceOf(LeaseLostError);
    await other.continue();
    await Promise.all([fenced.close(), other.close()]);
    expect(bought).toBe(1);
    expect(await contents(id)).toEqual(["assistant", "tool bought 1", "assistant Done"]);
  });
});

describe("many workers", () => {
  it("take turns, and no turn is interleaved with another", async () => {
    const id = await newSession();
    const step: Tool = { name: "step", inputSchema: {}, call: (_args, { callId }) => callId };
    const turns = Array.from({ length: 4 }, (_, one) =>
      Array.from({ length: 3 }, (_unused, two) => `${one}-${two}`),
    );
    await Promise.all(
      turns.map(async (names) => {
        for (const name of names) {
          const dialogue = await worker(id, [calling([name, "step"]), `done ${name}`], {
            tools: [step],
            leaseWaitMs: 60_000,
          });
          await dialogue.send(name);
          await dialogue.close();
        }
      }),
    );
    const said = await contents(id);
    const whole = said
      .filter((line) => line.startsWith("user "))
      .map((line) => line.slice("user ".length));
    expect(whole.toSorted()).toEqual(turns.flat());
    expect(said).toEqual(
      whole.flatMap((name) => [
        `user ${name}`,
        "assistant",
        `tool ${name}`,
        `assistant done ${name}`,
      ]),
    );
  });
});
