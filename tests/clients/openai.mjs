// OpenAI's own SDK for JavaScript: `node openai.mjs BASE_URL FAILING_PROMPT` prints what each call gave, as JSON.
import OpenAI from "openai";

const [baseURL, failing] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const messages = [{ role: "user", content: "hello" }];
const asked = { model: "demo", messages };

async function failure(call) {
  try {
    await call();
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, requestID: error.requestID, message: error.message };
  }
  return null;
}

async function read(stream, piece) {
  const pieces = [];
  for await (const event of await stream) pieces.push(piece(event));
  return pieces.filter((text) => text);
}

const found = {};

const { data, request_id } = await client.chat.completions.create(asked).withResponse();
found.create = { text: data.choices[0].message.content, finish: data.choices[0].finish_reason, usage: data.usage, model: data.model, requestId: request_id };

const pieces = [];
const helper = client.chat.completions.stream({ ...asked, stream_options: { include_usage: true } }).on("content", (piece) => pieces.push(piece));
const final = await helper.finalChatCompletion();
found.stream = { pieces, text: final.choices[0].message.content, finish: final.choices[0].finish_reason, usage: final.usage };

const turns = [
  { role: "system", content: "Be kind." },
  { role: "user", content: "my name is Ada" },
  { role: "assistant", content: [{ type: "text", text: "hello Ada" }] },
  { role: "user", content: "and my name?" },
];
found.conversation = (await client.chat.completions.create({ ...asked, messages: turns })).choices[0].message.content;

const response = await client.responses.create({ model: "demo", input: "hello" });
found.response = { text: response.output_text, status: response.status };
found.responseStream = await read(client.responses.create({ model: "demo", input: "hello", stream: true }), (event) =>
  event.type === "response.output_text.delta" ? event.delta : "",
);
const continued = await client.responses.create({ model: "demo", input: "go on", previous_response_id: response.id });
found.continued = continued.previous_response_id === response.id && continued.status;

found.models = [];
for await (const model of client.models.list()) found.models.push(model.id);

const broken = { model: "claude", messages: [{ role: "user", content: failing }] };
const again = { maxRetries: 5 };
found.errors = {
  tools: await failure(() => client.chat.completions.create({ ...asked, tools: [{ type: "function", function: { name: "f", parameters: {} } }] })),
  model: await failure(() => client.models.retrieve("no-such-model")),
  missing: await failure(() => client.chat.completions.create({ ...asked, model: "codex/gpt-5" })),
  previous: await failure(() => client.responses.create({ model: "demo", input: "x", previous_response_id: "resp_1" })),
  failed: await failure(() => client.chat.completions.create(broken, again)),
  streamed: await failure(() => read(client.chat.completions.create({ ...broken, stream: true }, again), () => "")),
  responseFailed: await failure(() => client.responses.create({ model: "claude", input: failing }, again)),
  responseStreamed: await failure(() => read(client.responses.create({ model: "claude", input: failing, stream: true }, again), () => "")),
};
console.log(JSON.stringify(found));
