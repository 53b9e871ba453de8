// Bytes that are no proper gRPC: on the HTTP/2 stream and below it.
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GetSessionResponse } from "../../gen/agentstore/v1/sessions.js";
import type { RawAnswer } from "../harness/raw-grpc.js";
import { bytes, frame, int, message, tag, varint } from "../harness/wire.js";
import { expectFault, unpack } from "./faults.js";
import { useStore } from "./store.js";

const store = useStore();

const METHODS = ["GetSession", "StreamMessages"] as const;

type Headers = Record<string, string | null>;

async function send(rpc: string, body: Uint8Array, headers: Headers = {}): Promise<RawAnswer> {
  const raw = await store.raw();
  return await raw.send(`/agentstore.v1.AgentStore/${rpc}`, body, headers);
}

/** Asserts that the connection on which something bad was sent still serves. */
async function stillServes(): Promise<void> {
  const conversationId = await store.newSession();
  const answer = await send("GetSession", frame(int(1, conversationId)));
  expect([answer.code, answer.text]).toEqual([0, "OK"]);
  expect(GetSessionResponse.decode(answer.messages[0]!).session!.id).toBe(conversationId);
}

const good = int(1, 1);

describe.each(METHODS)("%s", (rpc) => {
  test.each([
    ["no body", Buffer.alloc(0)],
    ["a prefix cut off", Buffer.from([0, 0, 0])],
    ["a prefix without a message", frame(Buffer.alloc(0), { length: 1 })],
    ["a frame that is longer than the body", frame(good, { length: 100 })],
    ["two messages", Buffer.concat([frame(good), frame(good)])],
    ["three messages", Buffer.concat([frame(good), frame(good), frame(good)])],
  ])("refuses %s", async (_, body) => {
    const { code, text, details } = await send(rpc, body);
    expectFault(unpack(code, text, details), { reason: "MALFORMED_REQUEST" });
    await stillServes();
  });

  test("refuses a frame of 4 GiB at once", async () => {
    const answer = await send(rpc, frame(good, { length: 0xffffffff }));
    expect(unpack(answer.code, answer.text, answer.details).code).toBe("RESOURCE_EXHAUSTED");
    await stillServes();
  });

  test.each([
    ["garbage as gzip", "gzip", "INTERNAL"],
    ["garbage as deflate", "deflate", "INTERNAL"],
    ["an encoding that nobody knows", "snappy", "UNIMPLEMENTED"],
  ])("refuses %s", async (_, encoding, code) => {
    const body = frame(Buffer.from("garbage"), { flag: 1 });
    const answer = await send(rpc, body, { "grpc-encoding": encoding });
    expect(unpack(answer.code, answer.text, answer.details).code).toBe(code);
    expect(answer.text).not.toContain("garbage");
    await stillServes();
  });

  test.each([
    ["text", "text/plain"],
    ["JSON", "application/json"],
    ["nothing", null],
  ])("refuses the content-type of %s", async (_, type) => {
    const answer = await send(rpc, frame(good), { "content-type": type });
    expect(answer.httpStatus).toBe(415);
    await stillServes();
  });

  test.each(["", "abc", "-1", "1", "1.5S", "S"])("refuses the timeout %j", async (timeout) => {
    const answer = await send(rpc, frame(good), { "grpc-timeout": timeout });
    // What is no timeout at all may be passed over too, as HTTP passes over headers.
    if (answer.code !== 0) {
      expect(["INTERNAL", "NOT_FOUND"]).toContain(unpack(answer.code, "", Buffer.alloc(0)).code);
    }
    await stillServes();
  });
});

test.each([
  "/agentstore.v1.AgentStore/NoSuchMethod",
  "/agentstore.v1.AgentStore/getSession",
  "/agentstore.v1.AgentStore/",
  "/agentstore.v2.AgentStore/GetSession",
  "/NoSuchService/GetSession",
  "/",
  `/${"x".repeat(4_000)}`,
])("%s is UNIMPLEMENTED", async (path) => {
  const raw = await store.raw();
  const answer = await raw.send(path, frame(good));
  expect(unpack(answer.code, answer.text, answer.details).code).toBe("UNIMPLEMENTED");
  await stillServes();
});

describe("a call that is reset", () => {
  const path = "/agentstore.v1.AgentStore/AddMessages";

  test.each([
    ["before its body", Buffer.alloc(0)],
    ["in its prefix", Buffer.from([0, 0])],
    ["in its message", frame(good, { length: 1_000_000 })],
    ["behind its message", frame(good)],
  ])("%s leaves nothing behind", async (_, start) => {
    const raw = await store.raw();
    for (const code of [
      http2.constants.NGHTTP2_CANCEL,
      http2.constants.NGHTTP2_INTERNAL_ERROR,
      http2.constants.NGHTTP2_PROTOCOL_ERROR,
    ]) {
      const answer = await raw.send(path, (stream) => {
        if (start.length === 0) stream.close(code);
        else stream.write(start, () => stream.close(code));
      });
      expect(answer.code).toBeUndefined();
    }
    await stillServes();
  });

  test("while it is worked on leaves all of it or nothing", async () => {
    const conversationId = await store.newSession();
    const batch = Array.from({ length: 200 }, () =>
      bytes(2, int(1, 2), bytes(2, "x".repeat(1_000))),
    );
    const request = frame(message(int(1, conversationId), ...batch));
    const raw = await store.raw();
    const delays = Array.from({ length: 20 }, (_, index) => index);
    for (const delay of delays) {
      await raw.send(path, (stream) => {
        stream.end(request);
        setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), delay);
      });
    }
    // Appends wait for those before them, so this one comes after all of them.
    await store.appendNumbered(conversationId, 1, 1);
    const { session } = await store.call("getSession", { conversationId });
    expect((session!.lastSeq - 1n) % 200n).toBe(0n);
    const { stats } = await store.call("getSessionStats", { conversationId });
    expect(stats!.totalMessages).toBe(session!.lastSeq);
    await stillServes();
  });

  test("right after it was opened, five hundred times, does not take the server down", async () => {
    const raw = await store.raw();
    const resets = Array.from({ length: 500 }, () =>
      raw.send(path, (stream) => stream.close(http2.constants.NGHTTP2_CANCEL)),
    );
    await Promise.all(resets);
    // The server may have closed this connection; a new one serves.
    await raw.close();
    await stillServes();
  });
});

describe("on the socket", () => {
  const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  const SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
  /** An HTTP/2 frame. */
  const h2 = (type: number, flags: number, stream: number, body: Uint8Array, length?: number) => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(length ?? body.length, 0, 3);
    head.writeUInt8(type, 3);
    head.writeUInt8(flags, 4);
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, body]);
  };
  const some = Buffer.from("some bytes");

  /** Sends bytes and waits until the server closes the connection or has answered it. */
  async function sendBytes(sent: Uint8Array): Promise<void> {
    const { address } = store.target;
    const colon = address.lastIndexOf(":");
    const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
    const socket = net.connect(Number(address.slice(colon + 1)), host);
    socket.on("error", () => {});
    await once(socket, "connect");
    const over = new Promise<void>((resolve) => {
      socket.on("close", () => resolve());
      socket.on("data", () => resolve());
    });
    // Ending the writing side ends a connection on which the server still waits for more.
    socket.end(sent);
    await over;
    socket.destroy();
  }

  test.each([
    ["nothing", Buffer.alloc(0)],
    ["HTTP/1.1", Buffer.from("GET / HTTP/1.1\r\nHost: a\r\n\r\n")],
    ["a POST over HTTP/1.1", Buffer.from("POST / HTTP/1.1\r\nContent-Length: 9999\r\n\r\nx")],
    ["an upgrade", Buffer.from("GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")],
    ["TLS", Buffer.from("1603010200010001fc0303", "hex")],
    ["SSH", Buffer.from("SSH-2.0-x\r\n")],
    ["U+0000", Buffer.alloc(10_000)],
    ["1 MiB of ff", Buffer.alloc(1024 * 1024, 0xff)],
    ["half a preface", Buffer.from(PREFACE.slice(0, 10))],
    ["a preface alone", Buffer.from(PREFACE)],
    ["a preface and garbage", Buffer.from(`${PREFACE}garbage garbage garbage`)],
    ["a DATA frame on stream 0", message(Buffer.from(PREFACE), SETTINGS, h2(0, 0, 0, some))],
    ["a DATA frame on no stream", message(Buffer.from(PREFACE), SETTINGS, h2(0, 0, 7, some))],
    ["HEADERS that are no HPACK", message(Buffer.from(PREFACE), SETTINGS, h2(1, 5, 1, some))],
    ["HEADERS on stream 2", message(Buffer.from(PREFACE), SETTINGS, h2(1, 5, 2, Buffer.of(0x82)))],
    ["CONTINUATION of nothing", message(Buffer.from(PREFACE), SETTINGS, h2(9, 4, 1, some))],
    ["a frame of 16 MiB", message(Buffer.from(PREFACE), SETTINGS, h2(0, 0, 1, some, 0xffffff))],
    ["SETTINGS of an odd length", message(Buffer.from(PREFACE), h2(4, 0, 0, some))],
    ["WINDOW_UPDATE of 0", message(Buffer.from(PREFACE), SETTINGS, h2(8, 0, 0, Buffer.alloc(4)))],
    ["frames of unknown types", message(Buffer.from(PREFACE), SETTINGS, h2(99, 255, 1, some))],
    [
      "10,000 PINGs",
      message(
        Buffer.from(PREFACE),
        SETTINGS,
        ...Array.from({ length: 10_000 }, () => h2(6, 0, 0, Buffer.alloc(8))),
      ),
    ],
  ])("%s", async (_, sent) => {
    await sendBytes(sent);
    await store.answers();
  });

  test("random bytes, with and without a preface", async () => {
    const start = fc.constantFrom(
      Buffer.alloc(0),
      Buffer.from(PREFACE),
      message(Buffer.from(PREFACE), SETTINGS),
    );
    await fc.assert(
      fc.asyncProperty(start, fc.uint8Array({ maxLength: 300 }), async (first, rest) => {
        await sendBytes(Buffer.concat([first, rest]));
      }),
      { numRuns: 100 },
    );
    await store.answers();
  });

  test("a hundred connections that say nothing", async () => {
    const { address } = store.target;
    const colon = address.lastIndexOf(":");
    const sockets = Array.from({ length: 100 }, () => {
      const socket = net.connect(
        Number(address.slice(colon + 1)),
        address.slice(0, colon).replace(/^\[|\]$/g, ""),
      );
      socket.on("error", () => {});
      return socket;
    });
    await Promise.all(sockets.map((socket) => once(socket, "connect")));
    await stillServes();
    for (const socket of sockets) socket.destroy();
  });
});

test("a message that comes byte by byte is as good as any", async () => {
  const conversationId = await store.newSession();
  const content = "漢🙂";
  const request = frame(
    message(int(1, conversationId), bytes(2, int(1, 2), bytes(2, content)), tag(100, 0), varint(1)),
  );
  const raw = await store.raw();
  const answer = await raw.send("/agentstore.v1.AgentStore/AddMessage", (stream) => {
    const sendFrom = (position: number): void => {
      if (position === request.length) stream.end();
      else stream.write(request.subarray(position, position + 1), () => sendFrom(position + 1));
    };
    sendFrom(0);
  });
  expect(answer.code).toBe(0);
  const { message: stored } = await store.call("getMessage", { conversationId, seq: 1n });
  expect(stored!.content).toBe(content);
});
