package fields

import "github.com/dubway/dubway/l7proxy/xds/fields/entry"

// dubboMessages are those of the dubbo_proxy network filter. Its HeaderMatcher and
// WeightedCluster are RouteConfiguration's.
var dubboMessages = []Message{
	{"envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy", []Field{
		yes("multiple_route_config", "all of its routes in their order, whatever their entries; a first match ends the search"),
		yes("route_config", "deprecated; the same. Not beside multiple_route_config; one of the two is required"),
		only("protocol_type", isEnum(0), "only Dubbo"),
		only("serialization_type", isEnum(0), "only Hessian2. Requests in fastjson2 are read too"),
		yes("dubbo_filters", "the router at most"),
		accept("stat_prefix", noStats),
	}},
	{"envoy.extensions.filters.network.dubbo_proxy.v3.DubboFilter", []Field{
		only("name", isString("envoy.filters.dubbo.router"), "only envoy.filters.dubbo.router"),
		extension("config", entry.SlotDubboFilter),
	}},
	{"envoy.extensions.filters.network.dubbo_proxy.v3.MultipleRouteConfiguration", []Field{
		yes("name", "the virtual host's in explanations"),
		yes("route_config", "required. Two entries for one interface are both tried"),
	}},
	{"envoy.extensions.filters.network.dubbo_proxy.v3.RouteConfiguration", []Field{
		yes("name", "the name of its routes in logs and metrics; may be empty"),
		yes("interface", "required; exact, prefix*, *suffix or *, with case. A star stands for at least one character, and is none anywhere else"),
		yes("group", "exact; empty for any, or none"),
		yes("version", "exact; empty for any, or none"),
		yes("routes", "required; the first that matches"),
	}},
	{"envoy.extensions.filters.network.dubbo_proxy.v3.Route", []Field{yes("match", "required"), yes("route", "required")}},
	{"envoy.extensions.filters.network.dubbo_proxy.v3.RouteMatch", []Field{
		yes("method", "required"),
		yes("headers", "each is an attachment, whose name is compared without case; of several that differ in case one must match. No name is an attribute here: interface is the attachment interface"),
	}},
	{"envoy.extensions.filters.network.dubbo_proxy.v3.MethodMatch", []Field{
		yes("name", "required; of a generic call the method that it names. safe_regex .* is any method"),
		yes("params_match", "by index, 0 to 254: of a generic call the arguments of the method that it names. Strings, numbers and booleans are compared as text (Envoy: strings alone); an argument that is none of them, or null, matches nothing"),
	}},
	{"envoy.extensions.filters.network.dubbo_proxy.v3.MethodMatch.ParameterMatchSpecifier", []Field{
		yes("exact_match", "if empty, or without either, any argument that has a text"),
		yes("range_match", "of a text that is a whole number"),
	}},
	{"envoy.extensions.filters.network.dubbo_proxy.v3.RouteAction", []Field{
		yes("cluster", "required, or weighted_clusters. A route to a missing cluster is taken and its requests fail"),
		yes("weighted_clusters"),
		yes("metadata_match", "filter_metadata[\"envoy.lb\"]"),
	}},
}
