// Runs a TensorFlow.js graph model on one input and prints its outputs as JSON; called by reference.py.
// usage: node faceres.mjs MODEL.json WEIGHTS.bin INPUT.f32 SHAPE OUTPUT...
import fs from 'node:fs';
import * as tf from '@tensorflow/tfjs';

const [graphPath, weightsPath, inputPath, shape, ...names] = process.argv.slice(2);
const bytes = (path) => { const b = fs.readFileSync(path); return b.buffer.slice(b.byteOffset, b.byteOffset + b.length); };
const graph = JSON.parse(fs.readFileSync(graphPath, 'utf8'));
const log = console.log;
console.log = console.error; // TensorFlow.js advertises on standard output.
await tf.setBackend('cpu');
const model = await tf.loadGraphModel({
  load: async () => ({
    modelTopology: graph.modelTopology,
    weightSpecs: graph.weightsManifest.flatMap((group) => group.weights),
    weightData: bytes(weightsPath),
    signature: graph.signature,
  }),
});
const input = tf.tensor(new Float32Array(bytes(inputPath)), JSON.parse(shape));
const outputs = [];
for (const name of names) outputs.push(Array.from(await model.execute(input, name).data()));
log(JSON.stringify({ version: tf.version.tfjs, outputs }));
