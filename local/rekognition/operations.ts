import type { Action } from './action.ts'
import { associateFaces } from './actions/associate-faces.ts'
import { compareFaces } from './actions/compare-faces.ts'
import { createCollection } from './actions/create-collection.ts'
import { createUser } from './actions/create-user.ts'
import { deleteCollection } from './actions/delete-collection.ts'
import { deleteFaces } from './actions/delete-faces.ts'
import { deleteUser } from './actions/delete-user.ts'
import { describeCollection } from './actions/describe-collection.ts'
import { detectFaces } from './actions/detect-faces.ts'
import { disassociateFaces } from './actions/disassociate-faces.ts'
import { indexFaces } from './actions/index-faces.ts'
import { listCollections } from './actions/list-collections.ts'
import { listFaces } from './actions/list-faces.ts'
import { listUsers } from './actions/list-users.ts'
import { searchFaces } from './actions/search-faces.ts'
import { searchFacesByImage } from './actions/search-faces-by-image.ts'
import { searchUsers } from './actions/search-users.ts'
import { searchUsersByImage } from './actions/search-users-by-image.ts'

export const operations = {
  AssociateFaces: associateFaces,
  CompareFaces: compareFaces,
  CreateCollection: createCollection,
  CreateUser: createUser,
  DeleteCollection: deleteCollection,
  DeleteFaces: deleteFaces,
  DeleteUser: deleteUser,
  DescribeCollection: describeCollection,
  DetectFaces: detectFaces,
  DisassociateFaces: disassociateFaces,
  IndexFaces: indexFaces,
  ListCollections: listCollections,
  ListFaces: listFaces,
  ListUsers: listUsers,
  SearchFaces: searchFaces,
  SearchFacesByImage: searchFacesByImage,
  SearchUsers: searchUsers,
  SearchUsersByImage: searchUsersByImage,
}

export type Operation = keyof typeof operations

export const operationNames = Object.keys(operations) as Operation[]

type InputOf<Name extends Operation> =
  (typeof operations)[Name] extends Action<infer Input, infer _> ? Input : never

/** A call as it was received: the operation, its validated input, and the how-many-th call of the operation it is. */
export type Call = {
  [Name in Operation]: { operation: Name; input: InputOf<Name>; count: number }
}[Operation]
