// Package peers holds the tests of the mesh with real Dubbo at both ends: Java of
// three lines and dubbo-go (test/dubbo-java, test/dubbo-java26, test/dubbo-go), each
// as consumer and as provider, in pods, with a real agent and an unprivileged proxy
// between them. They need root.
//
//   - TestMatrix takes every pair through what the protocol can do, and then ends the
//     providers, each in its way, under the calls of all consumers.
//   - TestLane does the same with lanes on, and wants calls of each pair in them.
//   - TestLocalReplies produces every condition in which the mesh answers itself, and
//     asks each kind of consumer what it makes of it (docs/local-replies.md).
//   - TestAmplification counts how often a provider is asked for one call, where both
//     the consumer and the route try again (docs/policies.md).
//   - TestIdle leaves connections alone for a minute, and kills consumers meanwhile.
//   - TestRegistry is discovery by a real ZooKeeper, steered by mistake or not.
//   - TestGenerate makes Services of what real providers register there, by applications
//     and by interfaces.
package peers
