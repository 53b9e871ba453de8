// Puts the services' RPCs on a grpc-js server.
import type {
  Server,
  ServiceDefinition,
  sendUnaryData,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { CallsInFlight } from "./calls-in-flight.js";
import { GrpcCall, type RawCall } from "./grpc-call.js";
import type { Method } from "./methods.js";
import type { CallEnvironment } from "./served-call.js";

/** Adds the services that the methods are of to a server. */
export function addServices(
  server: Server,
  methods: Method[],
  environment: CallEnvironment,
  calls: CallsInFlight,
): void {
  const definition: Record<string, unknown> = {};
  const implementation: UntypedServiceImplementation = {};
  for (const method of methods) {
    // Requests are decoded inside the chain, where a failure gets its reason and field.
    definition[method.path] = {
      ...method.definition,
      requestDeserialize: (bytes: Buffer) => bytes,
      // grpc-js copies what it gets before anything else can run.
      responseSerialize: method.serialize,
    };
    implementation[method.path] = (raw: RawCall, respond?: sendUnaryData<unknown>) => {
      calls.run(method, new GrpcCall(method.name, raw, environment, respond));
    };
  }
  server.addService(definition as unknown as ServiceDefinition, implementation);
}
