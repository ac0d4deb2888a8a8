(function_item name: (identifier) @name) @definition.function
(struct_item name: (type_identifier) @name) @definition.struct
(union_item name: (type_identifier) @name) @definition.struct
(enum_item name: (type_identifier) @name) @definition.enum
(trait_item name: (type_identifier) @name) @definition.trait
(type_item name: (type_identifier) @name) @definition.type
(impl_item type: (_) @name) @definition.impl
(macro_definition name: (identifier) @name) @definition.macro
(mod_item name: (identifier) @name body: (_)) @definition.module

(mod_item name: (identifier) @module !body) @import.mod
(use_declaration argument: (_) @module) @import.use
(extern_crate_declaration name: (identifier) @module) @import.crate
((source_file (function_item name: (identifier) @_main) @entry.main) (#eq? @_main "main"))
