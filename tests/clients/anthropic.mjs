// Anthropic's own SDK for JavaScript: `node anthropic.mjs BASE_URL FAILING_PROMPT` prints what each call gave, as JSON.
import Anthropic from "@anthropic-ai/sdk";

const [baseURL, failing] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey: "any", maxRetries: 0 });
const asked = { model: "demo", max_tokens: 1000, messages: [{ role: "user", content: "hello" }] };
const text = (message) => message.content.map((block) => block.text).join("");

async function failure(call) {
  try {
    await call();
  } catch (error) {
    return { name: error.constructor.name, status: error.status, requestID: error.requestID, message: error.message };
  }
  return null;
}

const found = {};

const { data, request_id } = await client.messages.create(asked).withResponse();
found.create = { text: text(data), stop: data.stop_reason, usage: data.usage, model: data.model, requestId: request_id };

const pieces = [];
const stream = client.messages.stream(asked).on("text", (piece) => pieces.push(piece));
const final = await stream.finalMessage();
found.stream = { pieces, text: text(final), stop: final.stop_reason, usage: final.usage };

const kinds = [];
for await (const event of await client.messages.create({ ...asked, stream: true })) kinds.push(event.type);
found.events = kinds;

const turns = [
  { role: "user", content: "my name is Ada" },
  { role: "assistant", content: [{ type: "text", text: "hello Ada" }] },
  { role: "user", content: "and my name?" },
];
found.conversation = text(await client.messages.create({ ...asked, messages: turns }));
found.tokens = (await client.messages.countTokens({ model: "demo", messages: asked.messages })).input_tokens;
found.models = [];
for await (const model of client.models.list({ limit: 3 })) found.models.push(model.id);

found.errors = {
  tools: await failure(() => client.messages.create({ ...asked, tools: [{ name: "f", input_schema: { type: "object" } }] })),
  model: await failure(() => client.models.retrieve("no-such-model")),
  missing: await failure(() => client.messages.create({ ...asked, model: "codex/gpt-5" })),
  failed: await failure(() =>
    client.messages.create({ ...asked, model: "claude", messages: [{ role: "user", content: failing }] }, { maxRetries: 5 }),
  ),
  streamed: await failure(() =>
    client.messages.stream({ ...asked, model: "claude", messages: [{ role: "user", content: failing }] }, { maxRetries: 5 }).finalMessage(),
  ),
};
console.log(JSON.stringify(found));
