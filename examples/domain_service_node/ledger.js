"use strict";

// The ledger of examples/domain_service/ledger.py, in Node and from the proto alone: the same methods,
// the same words, the same promises. Copy this folder, and `protos/stagegate/domain`.
//
// A service is a domain when it answers Describe and Invoke. It is called by Stage-3 and calls nobody.

const fs = require("node:fs");
const path = require("node:path");
const { parseArgs } = require("node:util");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const ACCOUNT = { type: "string", pattern: "^[a-z][a-z0-9_]{0,31}$" };
const CENTS = { type: "integer", minimum: 1, maximum: 1_000_000_000 };
const schema = (properties) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});

// What the method cannot do, it says in one sentence; it is recorded, and not shown to the client.
class MethodFailed extends Error {}

// One file, one line an entry, on the disk before it is answered. The key is the entry's name: a
// second call with it finds the first one's entry, which is what `fencing` promises.
class Book {
  constructor(file) {
    this.entries = new Map();
    if (fs.existsSync(file)) {
      // A line that a crash cut off was never answered, and is not there.
      const text = fs.readFileSync(file, "utf8");
      const whole = text.slice(0, text.lastIndexOf("\n") + 1);
      fs.truncateSync(file, Buffer.byteLength(whole));
      for (const line of whole.split("\n").filter(Boolean)) {
        const entry = JSON.parse(line);
        this.entries.set(entry.key, entry);
      }
    }
    this.file = fs.openSync(file, "a", 0o600);
  }

  transfer(key, { debit, credit, cents }) {
    const written = this.entries.get(key);
    if (written === undefined) {
      const entry = { key, debit, credit, cents };
      fs.writeSync(this.file, `${JSON.stringify(entry)}\n`);
      fs.fsyncSync(this.file);
      this.entries.set(key, entry);
    } else if (written.debit !== debit || written.credit !== credit || written.cents !== cents) {
      throw new MethodFailed("the idempotency key has written another entry");
    }
  }

  balance(account) {
    let cents = 0;
    for (const entry of this.entries.values()) {
      cents += entry.credit === account ? entry.cents : 0;
      cents -= entry.debit === account ? entry.cents : 0;
    }
    return cents;
  }
}

const METHODS = {
  transfer: {
    description: "Moves cents from one account to another.",
    parameters_schema: schema({ debit: ACCOUNT, credit: ACCOUNT, cents: CENTS }),
    run(book, parameters, key) {
      if (parameters.debit === parameters.credit) {
        throw new MethodFailed("debit and credit are the same account");
      }
      book.transfer(key, parameters);
      return { entry: key };
    },
  },
  balance: {
    description: "Says what an account holds.",
    parameters_schema: schema({ account: ACCOUNT }),
    run: (book, parameters) => ({ cents: book.balance(parameters.account) }),
  },
};

// Whoever holds a certificate of the same authority can connect; one identity may call.
function isStage3(call, trustDomain) {
  const names = call.getAuthContext().sslPeerCertificate?.subjectaltname ?? "";
  return names === `URI:spiffe://${trustDomain}/stage3`;
}

function service(book, trustDomain) {
  const permitted = (answer) => (call, callback) =>
    isStage3(call, trustDomain)
      ? callback(null, answer(call.request))
      : callback({ code: grpc.status.PERMISSION_DENIED, details: "only Stage-3 may call" });
  return {
    Describe: permitted(() => ({
      methods: Object.entries(METHODS).map(([name, method]) => ({
        name,
        description: method.description,
        parameters_schema_json: JSON.stringify(method.parameters_schema),
        max_duration: { seconds: 5 },
        max_response_bytes: 128,
      })),
    })),
    Invoke: permitted(({ method, parameters_json, idempotency_key }) => {
      try {
        if (!Object.hasOwn(METHODS, method)) {
          throw new MethodFailed("the domain has no method of this name");
        }
        const output = METHODS[method].run(book, JSON.parse(parameters_json), idempotency_key);
        return { output_json: Buffer.from(JSON.stringify(output)) };
      } catch (error) {
        // Another error's text may quote parameters: it stays here.
        const known = error instanceof MethodFailed;
        console.error(known ? error.message : error);
        return { failure: { message: known ? error.message : "the method raised an error" } };
      }
    }),
  };
}

function main() {
  const text = (value) => ({ type: "string", default: value });
  const { values } = parseArgs({
    options: {
      listen: text("127.0.0.1:7411"),
      keys: text("certs/ledger"),
      authority: text("certs/ca.crt"),
      "trust-domain": text("dev.test"),
      file: text("ledger.jsonl"),
      protos: text(path.join(__dirname, "..", "..", "protos")),
    },
  });
  const definition = loader.loadSync("stagegate/domain/v1/domain_service.proto", {
    includeDirs: [values.protos],
    keepCase: true,
    defaults: true,
    oneofs: true,
  });
  const { DomainService } = grpc.loadPackageDefinition(definition).stagegate.domain.v1;
  const server = new grpc.Server();
  server.addService(
    DomainService.service,
    service(new Book(values.file), values["trust-domain"]),
  );
  const pair = {
    private_key: fs.readFileSync(`${values.keys}.key`),
    cert_chain: fs.readFileSync(`${values.keys}.crt`),
  };
  const credentials = grpc.ServerCredentials.createSsl(
    fs.readFileSync(values.authority),
    [pair],
    true,
  );
  server.bindAsync(values.listen, credentials, (error, port) => {
    if (error !== null) {
      console.error(error.message);
      process.exit(71);
    }
    console.log(`ledger is ready: port ${port}`);
  });
  // Calls under way end, none is begun.
  process.once("SIGTERM", () => server.tryShutdown(() => process.exit(0)));
}

main();
