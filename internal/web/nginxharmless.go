package web

import "strings"

// harmless reports whether a directive is known to leave alone what a plain request is answered: who listens, who is
// logged, how fast and in what form things are sent, what is cached. A directive that is neither this nor understood makes
// every prediction beneath it uncertain.
func harmless(d *Directive) bool {
	if ngxHarmless[d.Name] {
		return true
	}
	for _, p := range ngxFamilies {
		if strings.HasPrefix(d.Name, p) {
			return true
		}
	}
	return false
}

// ngxFamilies are beginnings of the names of stock modules' directives (nginx.org/en/docs/dirindex.html).
var ngxFamilies = [...]string{
	"access_log", "add_", "addition_", "ancient_browser", "autoindex_", "aio", "brotli", "charset", "client_", "chunked_", "connection_pool",
	"directio", "expires", "fastcgi_", "flv", "geoip", "google_perftools", "grpc_", "gunzip", "gzip", "hls", "http2", "http3",
	"ignore_invalid", "keepalive_", "large_client", "limit_conn", "limit_rate", "lua_", "init_by_lua", "init_worker_by_lua", "log_by_lua", "balancer_by_lua", "secure_link", "js_set", "perl_set", "limit_req", "lingering_", "log_", "max_", "memcached_",
	"merge_slashes", "min_delete", "mirror", "more_", "mp4", "msie_", "open_file_cache", "open_log_file_cache", "output_", "override_charset",
	"pagespeed", "port_in_redirect", "postpone_", "proxy_", "quic_", "read_ahead", "real_ip", "recursive_", "request_pool", "reset_",
	"resolver", "root", "scgi_", "send_", "sendfile", "server", "set_real_ip", "slice", "source_charset", "ssi", "ssl_", "status_zone", "sub_filter",
	"subrequest_", "tcp_", "thread_pool", "types", "underscores_", "userid", "uwsgi_", "variables_hash", "zstd",
}

var ngxHarmless = map[string]bool{
	"listen": true, "location": true, "if": true, "limit_except": true, "index": true, "allow": true, "deny": true, "error_page": true,
	"include": true, "default_type": true, "error_log": true, "etag": true, "if_modified_since": true, "absolute_redirect": true,
	"server_name_in_redirect": true, "rewrite_log": true, "uninitialized_variable_warn": true, "upstream": true, "map": true, "geo": true,
	"split_clients": true, "map_hash_bucket_size": true, "map_hash_max_size": true, "referer_hash_bucket_size": true, "referer_hash_max_size": true,
	"satisfy": true, "auth_delay": true, "ssl": true, "modern_browser": true, "modern_browser_value": true, "auth_request_set": true,
	"post_action": true, "dav_methods": true, "dav_access": true, "dav_ext_methods": true, "create_full_put_path": true, "min_delete_depth": true,
	"autoindex_format": true, "empty_gif": true, "xml_entities": true, "satisfy_any": true, "perl_modules": true, "perl_require": true,
	"js_import": true, "js_path": true, "lua_package_path": true, "lua_package_cpath": true, "lua_shared_dict": true, "log_not_found": true,
	// A content handler that is switched off.
	"passenger_enabled": true,
}
