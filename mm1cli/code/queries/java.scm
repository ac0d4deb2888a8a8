(class_declaration name: (identifier) @name) @definition.class
(record_declaration name: (identifier) @name) @definition.class
(interface_declaration name: (identifier) @name) @definition.interface
(annotation_type_declaration name: (identifier) @name) @definition.interface
(enum_declaration name: (identifier) @name) @definition.enum
(method_declaration name: (identifier) @name) @definition.method
(constructor_declaration name: (identifier) @name) @definition.method
(compact_constructor_declaration name: (identifier) @name) @definition.method

(import_declaration [(identifier) (scoped_identifier)] @module) @import
(package_declaration [(identifier) (scoped_identifier)] @declare.package)
((method_declaration (modifiers) @_modifiers name: (identifier) @_main) @entry.main
 (#eq? @_main "main") (#match? @_modifiers "static"))
