// Calls over HTTP: what is sent is the test's, what comes back is unpacked as a gRPC status is.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import http, { type IncomingHttpHeaders } from "node:http";
import https from "node:https";
import path from "node:path";
import { createFileRegistry, type DescMethod, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { expect } from "vitest";
import { BadRequest, ErrorInfo, RetryInfo } from "../../gen/google/rpc/error_details.js";
import type { Fault } from "./faults.js";
import type { Target } from "./target.js";

/** The types and services of the .proto files. */
export const registry = createFileRegistry(
  fromBinary(
    FileDescriptorSetSchema,
    readFileSync(path.join(import.meta.dirname, "../../gen/agentstore.binpb")),
  ),
);

const SERVICES = ["agentstore.v1.AgentStore", "agentstore.v1.AgentStoreAdmin"];

/** All RPCs of both services. */
export const rpcs: DescMethod[] = SERVICES.flatMap(
  (service) => registry.getService(service)!.methods,
);

/** Where an RPC is called. */
export function pathOf({ parent, name }: DescMethod): string {
  return `/${parent.typeName}/${name}`;
}

/** What came back for a request. */
export interface HttpAnswer {
  httpStatus: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
  /** The body as JSON; undefined when it is none. */
  json: Record<string, unknown> | undefined;
}

/** A request; a method of POST and JSON unless said otherwise. */
export interface HttpRequest {
  method?: string;
  /** A header that is undefined is not sent. */
  headers?: Record<string, string | undefined>;
  /** What is sent: bytes, text, or what JSON.stringify makes of it. */
  body?: unknown;
  /** Whose connections are used; else it is one for this request alone. */
  agent?: http.Agent;
}

/**
 * Sends a request.
 *
 * @param url an RPC of AgentStore by its name alone, or a path
 */
export async function send(
  { httpUrl, token, ca }: Pick<Target, "httpUrl" | "token" | "ca">,
  url: string,
  { method = "POST", headers = {}, body = "", agent }: HttpRequest = {},
): Promise<HttpAnswer> {
  const bytes = Buffer.isBuffer(body) || typeof body === "string" ? body : JSON.stringify(body);
  const all = {
    ...(method === "POST" && { "content-type": "application/json" }),
    ...(token && { authorization: `Bearer ${token}` }),
    ...headers,
  };
  const sent = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
  const place = url.startsWith("/") ? url : `/agentstore.v1.AgentStore/${url}`;
  const options = { method, headers: sent as Record<string, string>, agent: agent ?? false, ca };
  const request = httpUrl.startsWith("https:")
    ? https.request(httpUrl + place, options)
    : http.request(httpUrl + place, options);
  // A server that has answered need not read the rest.
  let answered = false;
  const failed = once(request, "error").then(([error]) => {
    if (!answered) throw error;
  });
  request.end(method === "POST" ? bytes : undefined);
  const [response] = (await Promise.race([
    once(request, "response"),
    failed.then(() => [] as never),
  ])) as [http.IncomingMessage];
  answered = true;
  failed.catch(() => {});
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const whole = Buffer.concat(chunks);
  const isJson = response.headers["content-type"] === "application/json";
  return {
    httpStatus: response.statusCode ?? 0,
    headers: response.headers,
    body: whole,
    json: isJson && whole.length > 0 ? parse(whole) : undefined,
  };
}

/** Unpacks an error of the Connect protocol, whose HTTP status has to be its code's. */
export function faultOfJson(error: unknown): Fault {
  const {
    code,
    message,
    details = [],
  } = error as {
    code: string;
    message: string;
    details?: { type: string; value: string; debug: Record<string, unknown> }[];
  };
  const find = (type: string) => {
    const detail = details.find((each) => each.type === `google.rpc.${type}`);
    if (detail) expect(detail.value).toMatch(/^[A-Za-z0-9+/]+$/);
    return detail && { bytes: Buffer.from(detail.value, "base64"), debug: detail.debug };
  };
  const info = find("ErrorInfo");
  const bad = find("BadRequest");
  const retry = find("RetryInfo");
  const delay = retry && RetryInfo.decode(retry.bytes).retryDelay;
  const decoded = info && ErrorInfo.decode(info.bytes);
  expect(info?.debug["reason"]).toBe(decoded?.reason);
  return {
    code: code === "canceled" ? "CANCELLED" : code.toUpperCase(),
    text: message,
    reason: decoded?.reason,
    domain: decoded?.domain,
    metadata: decoded?.metadata ?? {},
    fields: bad ? BadRequest.decode(bad.bytes).fieldViolations.map(({ field }) => field) : [],
    everything: JSON.stringify(error),
    retryAfterMs: delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6,
  };
}

const HTTP_STATUS: Record<string, number> = {
  CANCELLED: 499,
  INVALID_ARGUMENT: 400,
  DEADLINE_EXCEEDED: 504,
  NOT_FOUND: 404,
  PERMISSION_DENIED: 403,
  RESOURCE_EXHAUSTED: 429,
  FAILED_PRECONDITION: 400,
  ABORTED: 409,
  UNAVAILABLE: 503,
  UNAUTHENTICATED: 401,
};

/** The fault that an answer tells; its HTTP status has to be that of its code. */
export function faultOfAnswer({ httpStatus, json, body }: HttpAnswer): Fault {
  if (json === undefined) throw new Error(`no JSON: ${body.toString().slice(0, 200)}`);
  const fault = faultOfJson(json);
  expect(Object.keys(status)).toContain(fault.code);
  expect(httpStatus, fault.text).toBe(HTTP_STATUS[fault.code]);
  return fault;
}

function parse(body: Buffer): Record<string, unknown> {
  return JSON.parse(body.toString()) as Record<string, unknown>;
}
