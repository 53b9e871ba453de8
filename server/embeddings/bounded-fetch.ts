// fetch, for servers that may answer anything: an answer ends at a limit, and redirects are not followed.
import { EndpointError } from "./endpoint-error.js";

/**
 * Makes a fetch whose answers have so many bytes at the most.
 *
 * @throws EndpointError, from the fetch or from reading its body
 */
export function boundedFetch(most: number): typeof fetch {
  return async (input, init) => {
    const response = await fetch(input, { ...init, redirect: "manual" });
    if (response.status >= 300 && response.status < 400) {
      await response.body?.cancel();
      throw new EndpointError("failed", `it answered with HTTP status ${response.status}`);
    }
    let left = most;
    const bound = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        left -= chunk.length;
        if (left >= 0) controller.enqueue(chunk);
        else
          controller.error(new EndpointError("failed", `its answer has more than ${most} bytes`));
      },
    });
    return new Response(response.body?.pipeThrough(bound) ?? null, response);
  };
}
