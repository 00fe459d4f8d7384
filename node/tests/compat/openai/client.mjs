// The unmodified OpenAI client against the node's /v1 routes; a model named `tiny` is there.
import assert from 'node:assert'
import OpenAI from 'openai'

const { url, width } = JSON.parse(process.argv[2])
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any', maxRetries: 0 })
const messages = [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Hi' }]
const base = { model: 'tiny', messages, max_tokens: 10, seed: 5 }
const ok = what => console.log(`ok ${what}`)

const models = await client.models.list()
assert.deepEqual(models.data.map(model => model.id), ['tiny'])
assert.equal((await client.models.retrieve('tiny')).object, 'model')
ok('models')

const whole = await client.chat.completions.create({ ...base, logprobs: true, top_logprobs: 3 })
const choice = whole.choices[0]
assert.equal(choice.message.role, 'assistant')
assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
assert.equal(choice.logprobs.content[0].top_logprobs.length, 3)
assert.equal(choice.receipt.format, 'weft-receipt-1')
ok('chat')

const again = await client.chat.completions.create(base)
assert.equal(again.choices[0].message.content, choice.message.content)
ok('the same seed, the same answer')

let text = ''
let usage
for await (const part of await client.chat.completions.create({ ...base, stream: true, stream_options: { include_usage: true } })) {
  text += part.choices[0]?.delta?.content ?? ''
  usage = part.usage ?? usage
}
assert.equal(text, choice.message.content)
assert.deepEqual(usage, whole.usage)
ok('stream')

const runner = client.chat.completions.stream(base)
assert.equal((await runner.finalChatCompletion()).choices[0].message.content, choice.message.content)
ok('the stream helper')

const completion = await client.completions.create({ model: 'tiny', prompt: 'Once', max_tokens: 5, temperature: 0, logprobs: 2 })
assert.equal(completion.usage.completion_tokens, 5)
assert.equal(completion.choices[0].logprobs.tokens.length, 5)
ok('completion')

// The client asks for base64 and reads it back unless told otherwise.
const vectors = await client.embeddings.create({ model: 'tiny', input: ['a', 'b'] })
assert.equal(vectors.data[1].embedding.length, width)
const floats = await client.embeddings.create({ model: 'tiny', input: 'b', encoding_format: 'float' })
assert.deepEqual(Array.from(floats.data[0].embedding).map(Math.fround), Array.from(vectors.data[1].embedding).map(Math.fround))
ok('embeddings')

const refused = await client.chat.completions.create({ ...base, model: 'nobody' }).then(() => null, error => error)
assert.equal(refused.status, 404)
assert.equal(refused.code, 'model_not_found')
const invalid = await client.chat.completions.create({ ...base, n: 2 }).then(() => null, error => error)
assert.ok(invalid instanceof OpenAI.BadRequestError)
assert.equal(invalid.param, 'n')
ok('refusals')

const fails = async ask => {
  const error = await ask.then(() => null, error => error)
  assert.ok(error instanceof OpenAI.APIError && error.error.message.length > 10, String(error))
  return [error.status, error.type, error.param]
}
const kind = 'invalid_request_error'
assert.deepEqual(await fails(client.chat.completions.create({ ...base, max_tokens: -1 })), [400, kind, 'max_tokens'])
assert.deepEqual(await fails(client.chat.completions.create({ ...base, top_p: 2 })), [400, kind, 'top_p'])
assert.deepEqual(await fails(client.chat.completions.create({ ...base, tool_choice: 'required' })), [400, kind, 'tool_choice'])
assert.deepEqual(await fails(client.completions.create({ model: 'tiny', prompt: ['a', 1] })), [400, kind, 'prompt'])
assert.deepEqual(await fails(client.completions.create({ model: 'tiny', prompt: 'x'.repeat(40 << 20) })), [413, kind, null])
assert.deepEqual(await fails(client.embeddings.create({ model: 'tiny' })), [400, kind, 'input'])
assert.deepEqual(await fails(client.responses.create({ model: 'tiny', input: 'x' })), [404, kind, null])
ok('errors name the field')

const long = { model: 'tiny', prompt: 'Once', max_tokens: 40, temperature: 0.7, seed: 11 }
const uncut = (await client.completions.create(long)).choices[0].text
const letters = [...uncut].filter(letter => letter !== '\ufffd')
const stop = letters[letters.length >> 1]
const cut = (await client.completions.create({ ...long, stop })).choices[0]
assert.equal(cut.finish_reason, 'stop')
assert.equal(cut.text, uncut.slice(0, uncut.indexOf(stop)))
let streamed = ''
for await (const part of await client.completions.create({ ...long, stop: [stop], stream: true })) streamed += part.choices[0].text
assert.equal(streamed, cut.text)
ok('stop')

// A reader that leaves in the middle: nothing is computed for it any more.
const endless = await client.chat.completions.create({ ...base, max_tokens: 1000, temperature: 1.5, stream: true })
let pieces = 0
for await (const _ of endless) if (++pieces === 3) break
const start = Date.now()
const running = async () => (await client.models.retrieve('tiny')).weft.loaded.some(one => one.running + one.waiting > 0)
while (await running()) assert.ok(Date.now() - start < 20000, 'the answer goes on')
const aborted = await client.chat.completions.create({ ...base, max_tokens: 1000 }, { timeout: 1 }).then(() => null, error => error)
assert.ok(aborted === null || aborted instanceof OpenAI.APIConnectionTimeoutError)
while (await running()) assert.ok(Date.now() - start < 20000, 'the answer goes on')
ok('cancelled')
