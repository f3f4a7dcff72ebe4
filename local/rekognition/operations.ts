import type { Action } from './action.ts'
import { createCollection } from './actions/create-collection.ts'
import { deleteCollection } from './actions/delete-collection.ts'
import { deleteFaces } from './actions/delete-faces.ts'
import { describeCollection } from './actions/describe-collection.ts'
import { detectFaces } from './actions/detect-faces.ts'
import { indexFaces } from './actions/index-faces.ts'
import { listCollections } from './actions/list-collections.ts'
import { listFaces } from './actions/list-faces.ts'
import { searchFaces } from './actions/search-faces.ts'
import { searchFacesByImage } from './actions/search-faces-by-image.ts'

export const operations = {
  CreateCollection: createCollection,
  DeleteCollection: deleteCollection,
  DeleteFaces: deleteFaces,
  DescribeCollection: describeCollection,
  DetectFaces: detectFaces,
  IndexFaces: indexFaces,
  ListCollections: listCollections,
  ListFaces: listFaces,
  SearchFaces: searchFaces,
  SearchFacesByImage: searchFacesByImage,
}

export type Operation = keyof typeof operations

export const operationNames = Object.keys(operations) as Operation[]

type InputOf<Name extends Operation> =
  (typeof operations)[Name] extends Action<infer Input, infer _> ? Input : never

/** A call as it was received: the operation, its validated input, and the how-many-th call of the operation it is. */
export type Call = {
  [Name in Operation]: { operation: Name; input: InputOf<Name>; count: number }
}[Operation]
