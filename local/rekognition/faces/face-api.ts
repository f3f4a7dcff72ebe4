import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { compileFunction } from 'node:vm'

type Tf = typeof import('@tensorflow/tfjs-core')
export type FaceApi = typeof import('@vladmandic/face-api')
type Tensor = import('@tensorflow/tfjs-core').Tensor

const require = createRequire(import.meta.url)

/**
 * Loads face-api with its models for detection, landmarks and recognition, on TensorFlow's WebAssembly backend.
 * Takes half a second and, once it has seen a photo, 400 MB.
 */
export async function loadFaceApi(): Promise<FaceApi> {
  const tf: Tf = require('@tensorflow/tfjs-core')
  const wasm: typeof import('@tensorflow/tfjs-backend-wasm') = require('@tensorflow/tfjs-backend-wasm')
  addChainedMethods(tf)

  wasm.setWasmPaths(join(packageFolder('@tensorflow/tfjs-backend-wasm'), 'dist/'))
  await tf.setBackend('wasm')
  await tf.ready()

  const faceapi = requireFaceApi(tf, wasm)
  const models = join(packageFolder('@vladmandic/face-api'), 'model')
  await faceapi.nets.ssdMobilenetv1.loadFromDisk(models)
  await faceapi.nets.faceLandmark68Net.loadFromDisk(models)
  await faceapi.nets.faceRecognitionNet.loadFromDisk(models)
  return faceapi
}

/**
 * face-api's build for Node asks for the package '@tensorflow/tfjs', 350 MB of which it uses a few functions of
 * tfjs-core. So it is evaluated here with a `require` that answers with tfjs-core instead.
 */
function requireFaceApi(tf: Tf, wasm: unknown): FaceApi {
  const file = join(packageFolder('@vladmandic/face-api'), 'dist', 'face-api.node-wasm.js')
  const substitutes = new Map<string, unknown>([
    ['@tensorflow/tfjs', freeingSteps(tf)],
    ['@tensorflow/tfjs-backend-wasm', wasm],
  ])
  const module: { exports: unknown } = { exports: {} }
  const load = compileFunction(readFileSync(file, 'utf8'), ['module', 'exports', 'require'], {
    filename: file,
  })
  load(module, module.exports, (id: string) => substitutes.get(id) ?? require(id))
  return module.exports as FaceApi
}

/**
 * The detector keeps what each of its steps gives until the last layer is done, 150 MB. Here the result of a step is freed once the
 * next step has been computed of it: of the first layers, which are the large ones. What is smaller is read again at the end.
 */
function freeingSteps(tf: Tf): Tf {
  const large = new WeakSet<Tensor>()
  const freeing =
    <Input extends Tensor, Rest extends unknown[]>(step: (input: Input, ...rest: Rest) => Input) =>
    (input: Input, ...rest: Rest): Input => {
      const result = step(input, ...rest)
      if (result.size >= LARGE) large.add(result)
      if (large.has(input)) input.dispose()
      return result
    }
  return {
    ...tf,
    conv2d: freeing(tf.conv2d),
    depthwiseConv2d: freeing(tf.depthwiseConv2d),
    add: freeing(tf.add),
    batchNorm: freeing(tf.batchNorm),
    clipByValue: freeing(tf.clipByValue),
  } as Tf
}

/** Numbers in 64 by 64 pixels of 256 channels. */
const LARGE = 64 * 64 * 256

/** The methods of tensors that '@tensorflow/tfjs' would have added, as far as the three models use them. */
function addChainedMethods(tf: Tf): void {
  function reshape(this: Tensor, ...shape: number[]): Tensor {
    return tf.reshape(this, shape)
  }
  function flatten(this: Tensor): Tensor {
    return tf.reshape(this, [this.size])
  }
  const binary = (operation: (one: Tensor, other: Tensor) => Tensor) =>
    function chained(this: Tensor, other: Tensor): Tensor {
      return operation(this, other)
    }
  function mean(this: Tensor, axis: number[]): Tensor {
    return tf.mean(this, axis)
  }
  Object.assign(tf.Tensor.prototype, {
    as1D: flatten,
    as2D: reshape,
    as3D: reshape,
    as4D: reshape,
    add: binary(tf.add),
    sub: binary(tf.sub),
    mul: binary(tf.mul),
    div: binary(tf.div),
    mean,
  })
}

function packageFolder(name: string): string {
  return dirname(require.resolve(`${name}/package.json`))
}
