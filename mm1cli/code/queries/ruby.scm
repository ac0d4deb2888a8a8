(method name: (_) @name) @definition.method
(singleton_method name: (_) @name) @definition.method
(class name: (_) @name) @definition.class
(module name: (_) @name) @definition.module

((call method: (identifier) @_method arguments: (argument_list . (string) @module)) @import.relative
 (#eq? @_method "require_relative"))
((call method: (identifier) @_method arguments: (argument_list . (string) @module)) @import
 (#eq? @_method "require"))
